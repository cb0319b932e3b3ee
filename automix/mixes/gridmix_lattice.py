"""GridMixup: show the partner through a lattice of square holes.

Paper: No paper, but code: github.com/IlyaDobrynin/GridMixup, after GridMask (Chen et al. 2020,
arXiv:2001.04086). OpenMixup calls it GridMix.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from automix.core.errors import ConfigError
from automix.masks.shapes import Outer
from automix.mixes import MIXES, MixInputs

HOLES = (2, 6)
"""Fewest and most holes along the longer side."""


@MIXES.register("gridmix_lattice")
def gridmix_lattice(inputs: MixInputs, *, holes: Sequence[int] = HOLES) -> Outer:
    """Show the partner through a lattice of square holes, as large as makes up ``share``.

    A hole's side is ``sqrt(share)`` of the way to the next, but for a pixel: how many rows and
    columns are open is chosen so that the realised share is off by less than one open column, and
    right in the mean. The place of the lattice is random.

    Formula:
        M = 1 where both the row and the column of a pixel are open, 0 elsewhere
        rows open = ceil(h sqrt(s)), columns open = s h w / rows open, rounded at random
        open are those that come first after a line of the lattice, one every max(h, w) / n pixels
        n ~ uniform over the whole numbers from the fewest to the most

    Args:
        inputs: What was wanted, and what to draw from.
        holes: Fewest and most holes along the longer side, one number drawn per image; no more than
            every other pixel.

    Differs:
        - Two to six holes a side, as in OpenMixup; GridMixup has 20, which on small images would
          leave holes of one pixel.
        - The lattice covers the whole image, as in GridMixup: the random part of the image that
          OpenMixup covers could not hold a large share.
    """
    whole = all(isinstance(number, int) for number in holes)
    if len(holes) != 2 or not whole or not 1 <= holes[0] <= holes[1]:
        raise ConfigError(
            f"holes are {list(holes)}, wanted two whole numbers, the fewest and the most",
            f"such as {list(HOLES)}",
        )
    (height, width), u = inputs.size, len(inputs.share)
    side = max(height, width)
    number = np.minimum(inputs.rng.integers(holes[0], holes[1] + 1, u), max(1, side // 2))
    place = inputs.rng.random((2, u, 1), dtype=np.float32)
    # At least one row, so that a small share may still have a column.
    rows = np.maximum(np.ceil(np.sqrt(inputs.share) * np.float32(height)), 1)
    columns = inputs.share * np.float32(height * width) / rows
    columns = np.floor(columns + inputs.rng.random(u, dtype=np.float32))
    step = (side / number)[:, None]
    return Outer(_open(height, rows, step, place[0]), _open(width, columns, step, place[1]))


def _open(side: int, count: np.ndarray, step: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return which ``count`` of the pixels along a side are open, (u, side) float32.

    Those that come first after a line of the lattice, which has one every ``step`` pixels.
    """
    phase = (np.arange(side) / step + place) % 1
    rank = phase.argsort(1, kind="stable").argsort(1)
    return (rank < count[:, None]).astype(np.float32)
