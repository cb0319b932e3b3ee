"""Crops and flips of a whole batch at once, and the way back for saliency maps.

The "pad, crop at random, flip" of CIFAR training: He et al. 2016, arXiv:1512.03385, section 4.2.
An image is padded on each side, a window of its own size is cut out, and the window is mirrored
for some: cropped first, flipped then. The other order has the same law.

How images are moved is decided on the host and kept as numbers, so that maps can follow the images
and come back, and nothing here waits for a device.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from automix.core.errors import ConfigError
from automix.core.settings import check_ranges, setting
from automix.mixing.blending import BLOCK


@dataclass(frozen=True, kw_only=True)
class AugmentSettings:
    """How training images are moved before they are mixed; by default not at all."""

    crop_padding: int = setting(0, least=0, whole=True)
    """Pixels added on each side before a window of the image's own size is cut out, uniformly at
    random; 0 is off. Papers on CIFAR take 4."""
    flip: float = setting(0.0, least=0, most=1)
    """Share of images that are mirrored left to right. Papers on CIFAR take 0.5."""

    def __post_init__(self) -> None:
        check_ranges(self, "trainer.augment")

    @property
    def active(self) -> bool:
        """Whether any image can be moved."""
        return self.crop_padding > 0 or self.flip > 0


@dataclass(frozen=True, slots=True)
class Views:
    """How each image of a batch is moved.

    A view has at (y, x) what the padded image has at (y + dy, x + dx) or, if it is flipped, at
    (y + dy, w - 1 - x + dx).
    """

    dy: np.ndarray
    """(b,) int64: rows that the window lies below the image; negative is above."""
    dx: np.ndarray
    """(b,) int64: columns that the window lies right of the image; negative is left."""
    flipped: np.ndarray
    """(b,) bool: whether the window is mirrored after that, left to right."""

    def __len__(self) -> int:
        return len(self.dy)

    def __getitem__(self, rows: slice | np.ndarray) -> Views:
        """Return the views of some of the images."""
        return Views(self.dy[rows], self.dx[rows], self.flipped[rows])

    def inverse(self) -> Views:
        """Return the views that move what is left of the images back to where it was."""
        return Views(-self.dy, np.where(self.flipped, self.dx, -self.dx), self.flipped)


def draw_views(b: int, settings: AugmentSettings, rng: np.random.Generator) -> Views:
    """Draw how each of ``b`` images is moved.

    Takes 3 b uniform numbers from ``rng`` whatever the settings are. With bounded integers the
    number would depend on the padding and on what comes out.
    """
    down, right, mirror = rng.random((3, b))
    padding = settings.crop_padding
    # The number of offsets is odd, for which the greatest draw, 1 - 2**-53, does not round up.
    dy, dx = ((u * (2 * padding + 1)).astype(np.int64) - padding for u in (down, right))
    return Views(dy, dx, mirror < settings.flip)


def augmented(
    images: Tensor, views: Views, out: Tensor | None = None, fill: float | Tensor = 0.0
) -> Tensor:
    """Return each image as its view shows it.

    Args:
        images: (b, c, h, w) float, or uint8; any strides, not modified. They are data: no
            gradient flows through.
        views: One for each image.
        out: As ``images``, any strides, not sharing memory with them; by default new memory,
            contiguous whatever the format of the images.
        fill: What the padding shows: one value, or one for each channel, (c,) or (c, 1, 1). The
            trainer's images have mean 0, so that 0 is the mean colour. The papers pad with 0 too,
            some of them before they take the mean off, and so with black; normalised, that is
            ``-mean / std`` of each channel.

    Returns:
        ``out``.

    Raises:
        ConfigError: If there is not one view for each image, or ``out`` is not like the images.
    """
    if len(views) != len(images):
        raise ConfigError(f"got {len(views)} views of {len(images)} images, wanted one for each")
    if out is not None and (out.shape != images.shape or out.dtype != images.dtype):
        raise ConfigError(
            f"out is {tuple(out.shape)} {out.dtype}, "
            f"wanted that of the images: {tuple(images.shape)} {images.dtype}"
        )
    if out is not None and out.is_contiguous():
        shown = out
    else:
        shown = torch.empty_like(images, memory_format=torch.contiguous_format)
    if images.numel():
        _gather(images, views, fill, shown)
    return shown if out is None or shown is out else out.copy_(shown)


def augmented_maps(maps: Tensor, views: Views) -> Tensor:
    """Move maps as their images were moved.

    Args:
        maps: (b, h, w) of the images as they are in the dataset, in their size; not modified.
        views: How the images were moved.

    Returns:
        (b, h, w), new. Padding has 0 and what left the image is lost, so that a map that had the
        sum 1 has less; the caller normalises.
    """
    return augmented(maps[:, None], views)[:, 0]


def canonical_maps(maps: Tensor, views: Views) -> tuple[Tensor, Tensor]:
    """Move maps of moved images back to where the pixels are in the dataset's images.

    Args:
        maps: (b, h, w) of the images as ``augmented`` returned them, in their size; not modified.
        views: How the images were moved.

    Returns:
        The maps, (b, h, w), new, with 0 where nothing is known; and (b, h, w) bool, where something
        is: the pixels that the moved image shows.
    """
    height, width = maps.shape[1:]
    y, x = np.arange(height) - views.dy[:, None], np.arange(width) - views.dx[:, None]
    # As bytes, of which an "and" takes a third of the time that bools take.
    rows = _sent(((y >= 0) & (y < height)).view(np.uint8), maps.device)
    columns = _sent(((x >= 0) & (x < width)).view(np.uint8), maps.device)
    seen = (rows[:, :, None] & columns[:, None, :]).view(torch.bool)
    return augmented_maps(maps, views.inverse()), seen


def _gather(images: Tensor, views: Views, fill: float | Tensor, out: Tensor) -> None:
    """Write what the views show to ``out``, which is contiguous."""
    b, c, h, w = images.shape
    # From the image's own size on, a view shows padding only.
    dy = np.minimum(np.maximum(views.dy, -h), h)
    dx = np.minimum(np.maximum(views.dx, -w), w)
    top, left = int(abs(dy).max()), int(abs(dx).max())
    high, wide = h + 2 * top, w + 2 * left
    x = np.arange(w)
    y = np.arange(h) + (top + dy)[:, None]
    x = np.where(views.flipped[:, None], x[::-1], x) + (left + dx)[:, None]
    rows = _sent(y * wide, images.device)[:, :, None]
    columns = _sent(x, images.device)[:, None, :]
    # On a CPU a few images at a time, with one piece of memory that stays in its cache to pad them
    # in: the first touch of memory for all would cost as much as the rest.
    each = c * high * wide * images.element_size()
    step = b if images.device.type != "cpu" else min(b, max(1, BLOCK // each))
    padded = images.new_empty((step, c, high, wide))
    if isinstance(fill, Tensor):
        colour = fill.to(images.device, images.dtype, non_blocking=True)
        padded.copy_(colour.reshape(-1, 1, 1))
    else:
        padded.fill_(fill)
    for start in range(0, b, step):
        part = slice(start, min(start + step, b))
        n = part.stop - start
        padded[:n, :, top : top + h, left : left + w] = images[part]
        # One index a pixel for all channels, over rows and columns at once: indexing by image,
        # channel, row and column takes two to five times as long.
        at = (rows[part] + columns[part]).view(n, 1, h * w).expand(n, c, h * w)
        torch.gather(padded[:n].view(n, c, -1), 2, at, out=out[part].view(n, c, -1))


def _sent(values: np.ndarray, device: torch.device) -> Tensor:
    """Return ``values`` on a device, without waiting for what it still has to do."""
    return torch.from_numpy(values).to(device, non_blocking=True)
