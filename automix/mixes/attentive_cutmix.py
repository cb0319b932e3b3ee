"""Attentive CutMix: paste the cells of the partner that matter most.

Paper: Walawalkar et al. 2020, arXiv:2003.13048, section 3.
"""

from __future__ import annotations

from automix.masks.grids import first_cells, grid_of, saliency_of_cells
from automix.masks.shapes import Array, Cells, as_float
from automix.mixes import MIXES, MixInfo, MixInputs


@MIXES.register("attentive_cutmix", MixInfo(guided=True))
def attentive_cutmix(inputs: MixInputs, *, cells: int = 7) -> Cells:
    """Paste the partner's most salient cells, as many as make up ``share``.

    What is pasted names the partner's class, and need not be in one piece. The number of cells is
    rounded up or down at random, so that the mean share is the wanted one. Unguided, random cells
    take the place of the salient ones.

    Formula:
        M = 1 in the cells taken, 0 elsewhere
        cells taken = the most salient ones that make up s; of the last one, the part that is wanted
                      is the chance to be taken

    Args:
        inputs: What was wanted, and what to draw from.
        cells: Cells per side, 7 as in the paper; an image of fewer pixels has one cell a pixel.

    Guided:
        Cells are taken in the order of the mean of the partner's map over them.

    Differs:
        - In the paper a pretrained net of its own says what matters, by the mean over the channels
          of its last features. Here any saliency provider does.
        - The paper always pastes 6 of the 49 cells. Here the wanted share decides how many.
    """
    grid = grid_of(inputs.size, cells)
    keys: Array
    if inputs.partner is None:
        keys = inputs.rng.random((len(inputs.share), grid[0] * grid[1]))
    else:
        keys = -saliency_of_cells(inputs.partner, grid)
    taken = first_cells(keys, inputs.share, inputs.size, grid, inputs.rng)
    return Cells(as_float(taken).reshape(-1, *grid), inputs.size)
