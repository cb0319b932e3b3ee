"""Hide-and-Seek: erase random cells of a random grid.

Paper: Singh and Lee 2017, arXiv:1704.04232, section 3.1.
"""

from __future__ import annotations

import numpy as np

from automix.core.errors import ConfigError
from automix.masks.recipes import Filled, Recipe
from automix.masks.shapes import Dense
from automix.mixes import MIXES, MixInfo, MixInputs

CELLS = (4, 5, 7, 14)
"""Per side: 56, 44, 32 and 16 pixels on 224."""


@MIXES.register("hide_and_seek", MixInfo(keeps_label=True))
def hide_and_seek(
    inputs: MixInputs, *, cells: tuple[int, ...] = CELLS, fill: float = 0.0
) -> Recipe:
    """Erase random cells that make up ``share`` of the image; the label stays.

    Where the most telling part is hidden, others must do. The number of cells is rounded up or down
    at random, so that the mean share is the wanted one.

    Formula:
        M = 1 in the hidden cells, which hold fill, 0 elsewhere
        hidden = the first of a random order that make up s; of the last one, the part that is
                 wanted is the chance to be hidden
        cells a side: drawn per image from the setting

    Args:
        inputs: What was wanted, and what to draw from.
        cells: Cells per side, one number drawn per image; where an image has fewer pixels, one cell
            a pixel.
        fill: What is left there, in the units of the images; 0 is the mean of normalised ones, so
            that the first layer sees the statistics that it meets in testing.

    Differs:
        - In the paper each cell is hidden with a chance of one half; here the share says how many
          are.
        - The official code's cells of 56, 44, 32 and 16 pixels on 224 are grids of 4, 5, 7 and 14
          cells a side here, for images of any size. Its fifth choice, to hide nothing, is the mix
          probability.
    """
    if not cells or not all(isinstance(one, int) and one >= 1 for one in cells):
        raise ConfigError(
            f"cells are {list(cells)}, wanted whole numbers of 1 or more, one at least",
            f"such as {list(CELLS)}: one is drawn for each image",
        )
    u = len(inputs.share)
    grid = inputs.rng.choice(cells, u)[:, None]
    row, column = (np.arange(side) * np.minimum(grid, side) // side for side in inputs.size)
    rows, columns = (min(max(cells), side) for side in inputs.size)
    hidden = _hidden(_lines(row, rows), _lines(column, columns), inputs)
    mask = hidden[np.arange(u)[:, None, None], row[:, :, None], column[:, None, :]]
    filled = Filled(np.full((u, 1), fill, np.float32))
    return Recipe(Dense(mask[:, None].astype(np.float32)), partner=filled)


def _lines(cell: np.ndarray, most: int) -> np.ndarray:
    """Return how many lines lie in each cell, (u, most), from the cell of each line, (u, side)."""
    return (cell[:, :, None] == np.arange(most)).sum(1)


def _hidden(high: np.ndarray, wide: np.ndarray, inputs: MixInputs) -> np.ndarray:
    """Draw which cells are hidden, (u, rows, columns) bool, from their heights and widths."""
    pixels = (high[:, :, None] * wide[:, None, :]).reshape(len(high), -1)
    order = inputs.rng.random(pixels.shape, dtype=np.float32).argsort(1)
    each = np.take_along_axis(pixels, order, 1)
    left = inputs.share[:, None] * (inputs.size[0] * inputs.size[1]) - (each.cumsum(1) - each)
    # The last cell, of which only a part is wanted, is hidden with that part as its chance.
    taken = inputs.rng.random((len(high), 1), dtype=np.float32) * each < left
    hidden = np.empty(pixels.shape, bool)
    np.put_along_axis(hidden, order, taken, 1)
    return hidden.reshape(len(high), high.shape[1], wide.shape[1])
