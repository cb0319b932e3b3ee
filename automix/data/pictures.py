"""Encoded pictures, and the image set they make: checked, resized, in memory or left on disk."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from timm.data.transforms_factory import create_transform
from torch import Tensor
from torchvision.transforms import PILToTensor

from automix.core.errors import DataError
from automix.data import DataSource
from automix.data.image_set import ImageSet, InMemory, OnDisk, Origin, in_threads
from automix.data.memory import fits

LOG = logging.getLogger(__name__)

NAMED = 10
"""How many skipped files a log line names."""

R = TypeVar("R")
Opener = Callable[[int], AbstractContextManager[Image.Image]]


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Encoded pictures by number, with their labels."""

    open: Opener
    """Number to a picture whose pixels need not be decoded yet; it is closed after use."""
    name: Callable[[int], str]
    """Number to what messages call the picture: its path."""
    labels: np.ndarray
    """(n,) int64."""
    mode: str = "RGB"
    """What every picture is converted to: ``RGB`` (grey is repeated, transparency dropped) or
    ``L``."""

    @property
    def channels(self) -> int:
        """1 or 3."""
        return len(self.mode)

    def size(self, number: int) -> tuple[int, int]:
        """Return (width, height); only the head of the file is read.

        Raises:
            DataError: If that cannot be read.
        """
        return self._with(
            number, lambda image: image.size[::-1] if _turn(image) > 4 else image.size
        )

    def decode(self, number: int, side: int) -> Tensor:
        """Return the pixels, (c, h, w) uint8.

        Args:
            number: Which.
            side: If above 0, the shorter edge is resized to it and the centre square kept.

        Raises:
            DataError: If the file cannot be read.
        """
        transform = PILToTensor()
        if side:
            # timm's evaluation transform; it holds no state, so that threads need not share one.
            transform = create_transform(side, is_training=False, crop_pct=1.0, normalize=False)
        return self._with(number, lambda image: transform(self._converted(image)))

    def _with(self, number: int, use: Callable[[Image.Image], R]) -> R:
        try:
            with self.open(number) as image:
                return use(image)
        # Decoders answer damaged files with nearly any exception: OSError, SyntaxError,
        # ValueError, EOFError, struct.error, zlib.error ...
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise DataError(
                f"{self.name(number)}: cannot be read as an image: {reason}",
                "replace or remove it, or leave such files out with task.skip_bad=true",
            ) from error

    def _converted(self, image: Image.Image) -> Image.Image:
        if image.mode.startswith(("I", "F")):
            # Pillow would clip the values, and the picture would turn white.
            raise ValueError(f"it has more than 8 bits a channel (mode {image.mode})")
        if _turn(image) > 1:
            image = ImageOps.exif_transpose(image)
        if "transparency" in image.info:
            image = image.convert("RGBA")
        return image.convert(self.mode)


def open_file(path: str) -> Image.Image:
    """Open a picture, which must be a plain file: a device or a pipe may never end."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("it is no plain file")
    return Image.open(path)


def _turn(image: Image.Image) -> int:
    """Return how a camera was held, as EXIF counts it: 1 upright, above 4 on its side."""
    # Pillow turns TIFF itself, and would decode all of a PNG for what may stand at its end.
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):
        return 1
    return int(image.getexif().get(ExifTags.Base.Orientation, 1))


def joined(parts: Sequence[Pictures]) -> Pictures:
    """Return the pictures of all parts, numbered through, in the mode of the first."""
    starts = np.cumsum([0, *(len(part.labels) for part in parts)])

    def at(number: int) -> tuple[Pictures, int]:
        part = int(np.searchsorted(starts, number, side="right")) - 1
        return parts[part], number - int(starts[part])

    def open_picture(number: int) -> AbstractContextManager[Image.Image]:
        part, local = at(number)
        return part.open(local)

    def name(number: int) -> str:
        part, local = at(number)
        return part.name(local)

    return Pictures(
        open=open_picture,
        name=name,
        labels=np.concatenate([part.labels for part in parts]),
        mode=parts[0].mode,
    )


def image_set(
    parts: Sequence[Pictures],
    source: DataSource,
    *,
    name: str,
    class_names: Sequence[str],
    origin: Origin,
) -> ImageSet:
    """Check pictures and make a set of them.

    Args:
        parts: The pool, and the test part if the set has its own.
        source: Size, memory limit and what to do about bad files.
        name: How reports and messages call the set.
        class_names: Names by label.
        origin: What else is to be told.

    Raises:
        DataError: If a file cannot be read and ``skip_bad`` is off, sizes differ and
            ``image_size`` is 0, or a class has no image that can be read.
    """
    pictures = joined(parts)
    sizes, bad = _attempt(pictures.size, range(len(pictures.labels)))
    side = source.image_size
    shape = (pictures.channels, *((side, side) if side else _usual_size(sizes)[::-1]))
    in_memory = fits(len(sizes) * int(np.prod(shape)), source.memory_limit_gb)
    images = torch.empty((len(pictures.labels) if in_memory else 0, *shape), dtype=torch.uint8)

    def keep(number: int) -> None:
        image = pictures.decode(number, side)
        if in_memory and image.shape == shape:  # other shapes are refused below
            images[number] = image

    if in_memory or source.skip_bad:
        bad |= _attempt(keep, sizes)[1]
    _report(bad, pictures, name, source.skip_bad)
    if bad:
        origin.leave_out(len(bad), "files that cannot be read")
    good = np.setdiff1d(np.arange(len(pictures.labels)), list(bad))
    if not side:
        _check_sizes({number: sizes[number] for number in good}, pictures, name)
    labels = pictures.labels[good]
    origin.name_of = lambda position: pictures.name(int(good[position]))
    _check_classes(pictures.labels, labels, class_names, name)
    return ImageSet(
        name=name,
        pixels=InMemory(images[torch.from_numpy(good)] if bad else images)
        if in_memory
        else OnDisk(partial(pictures.decode, side=side), good),
        labels=labels,
        class_names=tuple(class_names),
        shape=shape,
        test=np.flatnonzero(good >= len(parts[0].labels)) if len(parts) > 1 else None,
        memory_limit_gb=source.memory_limit_gb,
        origin=origin,
    )


def _attempt(
    function: Callable[[int], R], numbers: Sequence[int] | Mapping[int, object]
) -> tuple[dict[int, R], dict[int, DataError]]:
    """Call a function for each number; return what came back and what was refused."""

    def attempt(number: int) -> R | DataError:
        try:
            return function(number)
        except DataError as error:
            return error

    results = dict(zip(numbers, in_threads(attempt, numbers), strict=True))
    bad = {number: result for number, result in results.items() if isinstance(result, DataError)}
    good = {n: result for n, result in results.items() if not isinstance(result, DataError)}
    return good, bad


def _usual_size(sizes: Mapping[int, tuple[int, int]]) -> tuple[int, int]:
    """Return the commonest (width, height); where no file could be read, any will do."""
    found, counts = np.unique(np.array([*sizes.values()] or [(1, 1)]), axis=0, return_counts=True)
    width, height = found[counts.argmax()]
    return int(width), int(height)


def _report(bad: Mapping[int, DataError], pictures: Pictures, name: str, skip: bool) -> None:
    """Refuse bad files, or log them if they are to be skipped."""
    if not bad:
        return
    numbers, total = sorted(bad), len(pictures.labels)
    first = bad[numbers[0]]
    if not skip or len(bad) == total:
        raise DataError(
            f"{name}: {len(bad)} of {total} image files cannot be used; the first: {first}",
            first.hint if len(bad) < total else "look at the files: none of them can be used",
        ) from first
    names = ", ".join(pictures.name(number) for number in numbers[:NAMED])
    more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    LOG.warning("%s: skipped %d of %d image files: %s%s", name, len(bad), total, names, more)


def _check_sizes(sizes: Mapping[int, tuple[int, int]], pictures: Pictures, name: str) -> None:
    usual = _usual_size(sizes)
    others = [number for number, size in sizes.items() if size != usual]
    if not others:
        return
    like_it = next(number for number, size in sizes.items() if size == usual)
    odd = others[0]
    raise DataError(
        f"{name}: {len(others)} of {len(sizes)} images differ in size: "
        f"{pictures.name(odd)} has {sizes[odd][0]}x{sizes[odd][1]} pixels (width x height), "
        f"{pictures.name(like_it)} has {usual[0]}x{usual[1]}",
        "task.image_size=32 resizes all of them to 32x32",
    )


def _check_classes(
    before: np.ndarray, after: np.ndarray, class_names: Sequence[str], name: str
) -> None:
    emptied = np.setdiff1d(before, after)
    if len(emptied):
        raise DataError(
            f"{name}: class {class_names[emptied[0]]!r} has no image that can be read",
            "add images of it, or remove the class",
        )
