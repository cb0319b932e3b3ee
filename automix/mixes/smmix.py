"""SMMix: paste what the net in training looks at most where it looks least, and train its tokens.

Paper: Chen et al. 2023, arXiv:2212.12977, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from automix.core.errors import ConfigError
from automix.core.settings import Range, within
from automix.masks.grids import Grid, saliency_of_cells
from automix.masks.method_steps import Step, StepLoss, soft_losses, unseen
from automix.masks.shapes import as_tensor
from automix.mixes import MIXES, MixInfo
from automix.mixes.tokenmix import token_grid
from automix.nets.attention import attended, has_attention
from automix.nets.feature_maps import as_map


@MIXES.register(
    "smmix",
    MixInfo(
        step=True,
        guided=True,
        requires=("features",),
        unguided_requires=("attention",),
        check=within(tokens=Range(0), consistency=Range(0)),
    ),
)
def smmix(net: nn.Module, step: Step, *, tokens: float = 1.0, consistency: float = 1.0) -> StepLoss:
    """Paste the window that the net attends to most in the partner, where it attends least.

    A box at random often shows background and still names its class. Here the net itself, asked
    about the clean images, says what to show and what to cover. Two further losses have tokens of
    each region name their own image, and the mixed image be seen as its parts are.

    Formula:
        from the partner: the window of tokens with the largest sum of attention
        onto the image: the window of that size with the smallest
        window = as large a part of the image's rows as of its columns, of s of the tokens, rounded
                 at random
        lam = 1 - the window's pixels / all pixels
        loss = CE(mixed, lam yA + (1 - lam) yB)
               + tokens * (CE(head(mean of the image's tokens), yA)
                           + CE(head(mean of the partner's tokens), yB)) / 2
               + consistency * KL(softmax(lam zA + (1 - lam) zB) || softmax(mixed))
        z = logits of the clean images in evaluation mode, without a gradient
        attention = of the last block, the mean over heads and queries

    Args:
        net: The classifier.
        step: What to do.
        tokens: Weight of the loss of the regions, 0 or more.
        consistency: Weight of the loss against the clean images, 0 or more.

    Guided:
        The provider's maps, pooled to the tokens that TokenMix has, take the place of attention,
        which makes it work with convolutional nets: their places in the last feature map are the
        tokens, weighed by how much of each image they lie under.

    Differs:
        - The wanted share decides on the size of the window; the paper draws its side uniformly
          from a quarter to three quarters of the image's, and mixes half of the batches by mixup.
        - The window has the form of the image, which is a square if the image is one.
        - The net's own head names the regions. The official code has a second one for them, which
          a comparison with other methods would have to give to all.
        - Batch norm, which the paper's nets have none of, takes its statistics from the batch for z
          as well: running ones lag behind, in a deep net by far at the beginning.
    """
    logits = maps = None
    if consistency or step.maps is None:
        logits, maps = _looked(net, step.images, attention=step.maps is None)
    if step.maps is not None:
        grid = token_grid((step.images.shape[2], step.images.shape[3]))
        maps = saliency_of_cells(step.maps, grid).unflatten(1, grid)
    assert maps is not None
    windows = _windows(step, (maps.shape[1], maps.shape[2]))
    mixed, mask = pasted(step.images, step.partner, maps, windows)
    lam = as_tensor(windows.own_share(), mixed.device)

    answers, regions = _answers(net, mixed, mask)
    losses = soft_losses(answers, step.mixed_targets(lam))
    for answer, targets, share in zip(
        regions, (step.targets, step.targets[step.partner]), (lam, 1 - lam), strict=True
    ):
        # Where nothing is seen of an image there is nothing to name.
        losses = losses + tokens / 2 * soft_losses(answer, targets) * (share > 0)
    if logits is None:
        return StepLoss(losses, lam)
    if consistency:
        losses = losses + consistency * _divergence(logits, step.partner, lam, answers)
    return StepLoss(losses, lam, passes=(1, 0))


# What the clean images show ----------------------------------------------------------------------


def _looked(net: nn.Module, images: Tensor, attention: bool) -> tuple[Tensor, Tensor | None]:
    """Return logits (b, k) of clean images, float32, and attention (b, rows, columns) if asked."""
    if attention and not has_attention(net):
        raise ConfigError(
            f"smmix asks what the net attends to, and {type(net).__name__} has no attention that "
            "can be looked at",
            "name a saliency provider, for example smmix@0.5+cam, or take a transformer",
        )
    with unseen(net), _evaluating(net), torch.no_grad():
        if attention:
            logits, maps = attended(net, images, "mean")
            return logits.float(), maps
        return net(images).float(), None


@contextmanager
def _evaluating(net: nn.Module) -> Iterator[None]:
    """Put a net in evaluation mode, but for batch norm."""
    was = net.training
    net.eval()
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.train(was)
    try:
        yield
    finally:
        net.train(was)


def _divergence(logits: Tensor, partner: Tensor, lam: Tensor, answers: Tensor) -> Tensor:
    """Return KL(what the clean images say together || what the mixed ones say), (b,)."""
    wanted = torch.lerp(logits[partner], logits, lam[:, None]).log_softmax(1)
    found = answers.float().log_softmax(1)
    return F.kl_div(found, wanted, reduction="none", log_target=True).sum(1)


# Windows -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Windows:
    """How large a window of tokens each of b images gets."""

    sides: np.ndarray
    """(b, 2) int64: rows and columns of tokens; (0, 0) where nothing is pasted."""
    grid: Grid
    """Rows and columns of tokens of an image."""
    size: tuple[int, int]
    """(h, w) of the images in pixels."""

    @property
    def patch(self) -> np.ndarray:
        """(2,) float64: pixels along a token."""
        return np.array(self.size) / self.grid

    @property
    def pixels(self) -> np.ndarray:
        """(b, 2) int64: rows and columns of pixels."""
        return np.rint(self.sides * self.patch).astype(np.int64)

    def own_share(self) -> np.ndarray:
        """Return the part of each image that is outside its window, (b,) float32."""
        return (1 - self.pixels.prod(1) / (self.size[0] * self.size[1])).astype(np.float32)


def _windows(step: Step, grid: Grid) -> Windows:
    """Draw windows that have the wanted shares in the mean."""
    # The form of the grid in every size, from nothing to all of it.
    steps = np.arange(max(grid) + 1)[:, None]
    forms = np.maximum(np.rint(steps * np.array(grid) / max(grid)), steps > 0).astype(np.int64)
    area = forms.prod(1)
    # An image that meets itself stays as it is.
    meets = step.pairs.partner != np.arange(len(step.share))
    wanted = step.share.astype(np.float64) * meets * area[-1]
    below = np.minimum(np.searchsorted(area, wanted, side="right") - 1, len(area) - 2)
    part = (wanted - area[below]) / (area[below + 1] - area[below])
    chosen = below + (step.rng.random(len(part)) < part)
    return Windows(forms[chosen], grid, (step.images.shape[2], step.images.shape[3]))


def pasted(
    images: Tensor, partner: Tensor, maps: Tensor, windows: Windows
) -> tuple[Tensor, Tensor]:
    """Paste the partner's window with the largest sum onto the image's with the smallest.

    Args:
        images: (b, c, h, w); not modified.
        partner: (b,) int64.
        maps: (b, rows, columns): how much each token of the images matters.
        windows: Their sizes.

    Returns:
        New images (b, c, h, w), and where they show the partner, (b, 1, h, w) bool.
    """
    device = images.device
    sides, pixels, patch, most = (
        as_tensor(each, device)
        for each in (windows.sides, windows.pixels, windows.patch, windows.size - windows.pixels)
    )
    # Where the grid does not divide the image, to the nearest pixel inside.
    source, target = (
        torch.minimum((best_window(each, sides) * patch).round().long(), most)
        for each in (maps[partner], -maps)
    )
    inside, taken = [], []
    for axis, side in enumerate(windows.size):
        at = torch.arange(side, device=device) - target[:, axis, None]
        inside.append((at >= 0) & (at < pixels[:, axis, None]))
        taken.append((at + source[:, axis, None]).clamp(0, side - 1))
    mask = inside[0][:, :, None] & inside[1][:, None, :]
    index = partner[:, None, None], taken[0][:, :, None], taken[1][:, None, :]
    moved = images.movedim(1, 3)[index].movedim(3, 1)
    return torch.where(mask[:, None], moved, images), mask[:, None]


def best_window(maps: Tensor, sides: Tensor) -> Tensor:
    """Return the first token (row, column) of the window with the largest sum, (b, 2) int64.

    Args:
        maps: (b, rows, columns).
        sides: (b, 2) int64: rows and columns of each image's window, which lies inside.
    """
    rows, columns = maps.shape[1:]
    # Sums from the corner on, and differences of them: small ones must not drown.
    sums = F.pad(maps.double().cumsum(1).cumsum(2), (1, 0, 1, 0))
    firsts, ends, fits = [], [], []
    for axis, cells in enumerate((rows, columns)):
        first = torch.arange(cells, device=maps.device).expand(len(maps), -1)
        end = first + sides[:, axis, None]
        firsts.append(first)
        fits.append(end <= cells)
        ends.append(end.clamp(max=cells))
    each = torch.arange(len(maps), device=maps.device)[:, None, None]

    def corner(down: Tensor, across: Tensor) -> Tensor:
        return sums[each, down[:, :, None], across[:, None, :]]

    found = corner(ends[0], ends[1]) - corner(firsts[0], ends[1])
    found = found - corner(ends[0], firsts[1]) + corner(firsts[0], firsts[1])
    found = found.masked_fill(~(fits[0][:, :, None] & fits[1][:, None, :]), -torch.inf)
    best = found.flatten(1).argmax(1)
    return torch.stack([best // columns, best % columns], 1)


# What the mixed images show ----------------------------------------------------------------------


def _answers(net: nn.Module, mixed: Tensor, mask: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return logits (b, k) of mixed images, and of the own and the partner's tokens in them.

    The head is given the mean of a region's tokens in the place of every token, the class token
    too, so that it reads this mean however it pools.
    """
    found = net.forward_features(mixed)  # type: ignore[operator]
    maps, back = as_map(net, found, mixed)
    answers = net.forward_head(back(maps))  # type: ignore[operator]
    shown = F.adaptive_avg_pool2d(mask.float(), (maps.shape[2], maps.shape[3]))
    regions = []
    with unseen(net):
        for weight in (1 - shown, shown):
            weight = weight / weight.sum((2, 3), keepdim=True).clamp(min=1e-12)
            mean = (maps * weight).sum((2, 3)).to(found)
            level = (
                mean[:, None].expand_as(found)
                if found.dim() == 3
                else back(mean[:, :, None, None].expand_as(maps))
            )
            regions.append(net.forward_head(level))  # type: ignore[operator]
    return answers, (regions[0], regions[1])
