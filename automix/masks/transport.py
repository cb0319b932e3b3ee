"""Block transport: move salient blocks of an image to where the image shows.

Paper: Kim et al. 2020, PuzzleMix, arXiv:2009.06962, section 3.2. Its plan is the permutation of
blocks that costs least: a squared distance for each block that moves, less the saliency that
lands where the image shows. The official code resolves conflicts between blocks that want one
place, and may show a block twice and lose another. Here blocks change places in pairs, so that
all of them are there in the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from automix.masks.shapes import PerDraw, as_tensor

MOST = 16
"""Blocks a side: larger images have larger blocks."""

ROUNDS = 6
"""How often pairs of blocks change places; more save next to nothing."""

LEAST_GAIN = 1e-6
"""What a swap must save; less is rounding."""


@dataclass(frozen=True, slots=True)
class Moved(PerDraw):
    """Images with their square blocks in another order."""

    source: Tensor
    """(u, places) int64: which block each place shows, a permutation; row by row from the top
    left. Rows and columns that fill no block stay."""
    side: int
    """Pixels of a block."""
    of_partner: bool
    """Whether it is the partners that move, rather than the own images."""

    def __call__(self, own: Tensor, partner: Tensor) -> Tensor:
        """Return moved images, (u, c, h, w)."""
        images = partner if self.of_partner else own
        if self.source.shape[1] < 2:
            return images
        blocks = _blocks(images, self.side)
        index = as_tensor(self.source, images.device)
        rows = torch.arange(len(index), device=images.device)[:, None]
        moved = images.clone()
        high, wide = blocks.shape[1:3]
        part = blocks.flatten(1, 2)[rows, index].unflatten(1, (high, wide))
        part = part.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
        moved[:, :, : high * self.side, : wide * self.side] = part
        return moved

    def maps(self, own: Tensor, partner: Tensor) -> Tensor:
        """Return the maps moved alike."""
        return self(own[:, None], partner[:, None])[:, 0]


def transported(
    shown: Tensor, saliency: Tensor, *, eps: float, side: int, of_partner: bool
) -> Moved:
    """Find where the blocks of images go.

    Args:
        shown: (u, h, w) in [0, 1]: how much of the image shows at each pixel.
        saliency: (u, h, w), each summing to 1.
        eps: What it costs to move a block once across the image.
        side: Pixels of a block, above 0; more if the image had more than ``MOST`` of them a side.
        of_partner: Whether the images are the partners.
    """
    height, width = shown.shape[1:]
    side = max(side, -(-max(height, width) // MOST))
    weight = _blocks(shown[:, None], side).mean((3, 4, 5))
    mass = _blocks(saliency[:, None].float(), side).sum((3, 4, 5))
    return Moved(plan(weight, mass, eps), side, of_partner)


def plan(weight: Tensor, mass: Tensor, eps: float) -> Tensor:
    """Return which block each place shows, (u, rows * columns) int64; never worse than no move.

    Each round, every two places that are each other's best partner for a swap do swap, so that
    the cost ``sum(eps * distance^2 - weight * mass)`` falls from round to round.

    Args:
        weight: (u, rows, columns): how much shows at each place.
        mass: (u, rows, columns): the saliency of each block.
        eps: The price of a squared distance, in units of the longer side.
    """
    u, rows, columns = weight.shape
    places = torch.arange(rows * columns, device=weight.device)
    source = places.expand(u, -1)
    if len(places) < 2:
        return source
    at = torch.stack([places // columns, places % columns], 1) / (max(rows, columns) - 1)
    # What a place likes and what a block has: the sum of products is what all of it is worth,
    # for a squared distance is, but for what no permutation changes, -2 * (from . to).
    likes = torch.cat([at.expand(u, -1, -1) * (2 * eps), weight.reshape(u, -1, 1)], 2)
    has = torch.cat([at.expand(u, -1, -1), mass.reshape(u, -1, 1)], 2)
    for _ in range(ROUNDS):
        held = has.gather(1, source[:, :, None].expand(-1, -1, 3))
        now = (held * likes).sum(2, keepdim=True)
        more = torch.baddbmm(now, held, likes.mT, beta=-1)  # for the block of a row at a column
        # Symmetric to the last bit: else one of two places might swap without the other.
        gain = more + more.mT
        best, other = gain.max(2)
        swaps = (best > LEAST_GAIN) & (other.gather(1, other) == places)
        source = torch.where(swaps, source.gather(1, other), source)
    return source


def _blocks(images: Tensor, side: int) -> Tensor:
    """Return the blocks of images (u, c, h, w): (u, rows, columns, c, side, side)."""
    rows, columns = (length // side for length in images.shape[2:])
    whole = images[:, :, : rows * side, : columns * side]
    return whole.unflatten(3, (columns, side)).unflatten(2, (rows, side)).permute(0, 2, 4, 1, 3, 5)
