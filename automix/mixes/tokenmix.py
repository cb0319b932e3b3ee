"""TokenMix: paste several separated blocks of the partner's tokens.

Paper: Liu et al. 2022, arXiv:2207.08409, section 3.2. Blocks grow as in masked image modelling (Bao
et al. 2021, BEiT, arXiv:2106.08254, algorithm 1).
"""

from __future__ import annotations

import numpy as np

from automix.core.errors import ConfigError
from automix.core.settings import Range
from automix.masks.grids import Grid
from automix.masks.shapes import Cells
from automix.mixes import MIXES, MixInputs

MODES = ("block", "random")

FEWEST, MOST = 8, 14
"""Tokens along the longer side, where the patch is not set; the paper's images have 14."""

FLATTEST = 0.3
"""The least height of a block over its width; the largest is 1 over it."""

TRIES = 10
"""Blocks in a row that find no room before the rest are single tokens."""


@MIXES.register("tokenmix")
def tokenmix(inputs: MixInputs, *, mode: str = "block", patch: int = 0) -> Cells:
    """Paste the partner in several blocks of tokens, the patches that a transformer reads.

    CutMix shows each image in one piece, and a transformer, whose tokens all see each other, needs
    none. As many tokens are pasted as make up ``share``, rounded up or down at random, so that the
    mean share is the wanted one. The label is that of the label rule: the area, or, as in the
    paper, what a teacher's maps say of the tokens, by ``tokenmix+teacher:cam_mass``.

    Formula:
        M = 1 in n of the t tokens, 0 elsewhere; n = s t, rounded at random
        block: rectangles of area ~ U(1, tokens still missing) and log(height / width) ~
               U(log 0.3, -log 0.3), uniformly placed, are added one after the other if they hold
               a new token and no more than are missing; once ten in a row do not, the missing
               tokens are drawn as below
        random: n tokens, all alike

    Args:
        inputs: What was wanted, and what to draw from.
        mode: "block", or "random" tokens, which the paper finds as good for transformers and bad
            for convolutional nets.
        patch: Pixels along a token. 0 takes 8 to 14 tokens along the longer side, of the fewest
            pixels that divide both sides, if some do. Sides that are no multiples have tokens that
            differ by a pixel.

    Differs:
        - The official code always asks for the same 112 of 196 tokens, and half of the batches are
          plain mixup. Here the wanted share decides.
        - It gives up after ten rectangles without room, with fewer tokens than wanted; here single
          tokens fill the number. A rectangle beyond the image is cut to its sides, not drawn anew.
        - The grid is not 14 x 14 of 224 pixels, but fits any image.
        - The paper reads its label off class maps of a pretrained NFNet-F6, made in advance and cut
          as the image is. Here the teacher, or the moving average by ``ema``, looks at the image as
          it is trained on, and tells where it sees something, whatever the class.
        - The loss stays the cross-entropy, under which weights that do not sum to 1 also weigh the
          image. The official code has a binary cross-entropy for them, off by default.
    """
    if mode not in MODES:
        raise ConfigError(f"tokenmix.mode is {mode!r}, wanted {' or '.join(MODES)}")
    Range(0, hint="pixels along a token, or 0 for what fits").check("tokenmix.patch", patch)
    grid = token_grid(inputs.size, patch)
    # In float64, so that all tokens and what rounds them stay below one more.
    wanted = inputs.share.astype(np.float64) * (grid[0] * grid[1])
    count = np.floor(wanted + inputs.rng.random(len(wanted), dtype=np.float32)).astype(np.int64)
    taken = np.zeros((len(count), *grid), bool)
    if mode == "block":
        _add_blocks(taken, count, inputs.rng)
    _add_tokens(taken, count, inputs.rng)
    return Cells(taken.astype(np.float32), inputs.size)


def token_grid(size: tuple[int, int], patch: int = 0) -> Grid:
    """Return the rows and columns of tokens of images (h, w).

    Args:
        size: (h, w) in pixels.
        patch: Pixels along a token, or 0 to choose them.
    """
    if not patch:
        longer = max(size)
        least, most = -(-longer // MOST), max(1, longer // FEWEST)
        dividing = [p for p in range(least, most + 1) if not (size[0] % p or size[1] % p)]
        patch = dividing[0] if dividing else least
    return -(-size[0] // patch), -(-size[1] // patch)


def _add_blocks(taken: np.ndarray, count: np.ndarray, rng: np.random.Generator) -> None:
    """Add rectangles until so many tokens are taken, or ten in a row found no room.

    All images add theirs at once, one a round.

    Args:
        taken: (u, rows, columns) bool, written to.
        count: (u,) int: tokens wanted.
        rng: Draws the rectangles.
    """
    grid = taken.shape[1:]
    missing, failed = count.copy(), np.zeros_like(count)
    while (active := np.flatnonzero((missing > 0) & (failed < TRIES))).size:
        block = _rectangles(missing[active], grid, rng) & ~taken[active]
        gain = block.sum((1, 2))
        fits = (gain > 0) & (gain <= missing[active])
        chosen = active[fits]
        taken[chosen] |= block[fits]
        missing[chosen] -= gain[fits]
        failed[active] += 1
        failed[chosen] = 0


def _rectangles(most: np.ndarray, grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """Draw rectangles of up to ``most`` (u,) tokens: (u, rows, columns) bool."""
    area, tilt, *place = rng.random((4, len(most)))
    area = 1 + area * (most - 1)
    aspect = FLATTEST ** (2 * tilt - 1)
    inside = []
    for side, cells, at in zip((area * aspect, area / aspect), grid, place, strict=True):
        length = np.minimum(np.rint(np.sqrt(side)), cells)[:, None]
        # Uniform over the places where it lies inside.
        first = np.floor(at[:, None] * (cells - length + 1))
        index = np.arange(cells)
        inside.append((index >= first) & (index < first + length))
    rows, columns = inside
    return rows[:, :, None] & columns[:, None, :]


def _add_tokens(taken: np.ndarray, count: np.ndarray, rng: np.random.Generator) -> None:
    """Add tokens that are not taken, all alike, until there are ``count``, (u,), of them."""
    flat = taken.reshape(len(taken), -1)
    short = np.flatnonzero(flat.sum(1) < count)
    # Those that are taken come first and stay.
    keys = np.where(flat[short], -1.0, rng.random((len(short), flat.shape[1])))
    last = np.take_along_axis(np.sort(keys, 1), count[short, None] - 1, 1)
    flat[short] = keys <= last
