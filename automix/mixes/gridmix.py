"""GridMix: take each cell of a grid whole, from the image or from its partner.

Paper: Baek et al. 2021, "GridMix: Strong regularization through local context mapping", Pattern
Recognition 109.
"""

from __future__ import annotations

import numpy as np

from automix.masks.grids import first_cells, grid_of, saliency_of_cells
from automix.masks.shapes import Array, Cells, as_float, as_tensor
from automix.mixes import MIXES, MixInfo, MixInputs

FAINTEST = 1e-30
"""Saliency that every cell has at least; cells without any come last, in random order."""


@MIXES.register("gridmix", MixInfo(guided=True))
def gridmix(inputs: MixInputs, *, cells: int = 4) -> Cells:
    """Take random whole cells of a grid from the partner, as many as make up ``share``.

    Each pixel belongs to one image, and both are seen all over the picture. The number of cells is
    rounded up or down at random, so that the mean share is the wanted one.

    Formula:
        M = 1 in the cells taken, 0 elsewhere
        cells taken = the first of a random order that make up s; of the last one, the part that is
                      wanted is the chance to be taken

    Args:
        inputs: What was wanted, and what to draw from.
        cells: Cells per side; an image of fewer pixels has one cell a pixel.

    Guided:
        Cells are drawn one after the other, each with a chance that is proportional to the
        partner's saliency in it. Cells without any come last.

    Differs:
        - The paper's second loss, which predicts the class of each cell, does not concern the mask
          and is left out.
        - We could not check the paper's grid. Four cells a side are our choice for small images:
          coarse enough that a cell of 32 x 32 pixels still shows something.
        - The number of cells follows the share closely. Drawn one by one, each with the share as
          its chance, as we remember the paper's, it would scatter around it.
        - The guided form is ours; the paper has none.
    """
    grid = grid_of(inputs.size, cells)
    # Whoever is first in a race of exponential times, divided by saliency, is drawn in proportion
    # to it, and so is the next among the rest.
    times = inputs.rng.standard_exponential((len(inputs.share), grid[0] * grid[1]), np.float32)
    keys: Array = times
    if inputs.partner is not None:
        saliency = saliency_of_cells(inputs.partner, grid).clamp(min=FAINTEST)
        # In logarithms: a quotient of the two may be too large for a float.
        late = np.log(np.maximum(times, np.float32(FAINTEST)))
        keys = as_tensor(late, saliency.device) - saliency.log()
    taken = first_cells(keys, inputs.share, inputs.size, grid, inputs.rng)
    return Cells(as_float(taken).reshape(-1, *grid), inputs.size)
