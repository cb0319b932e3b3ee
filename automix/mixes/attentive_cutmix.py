"""Attentive CutMix: paste the cells of the partner that matter most.

Paper: Walawalkar et al. 2020, arXiv:2003.13048, section 3. There a pretrained net of its own says
what matters, the mean over channels of its last features, and always 6 of 7 x 7 cells are pasted.
Here any saliency provider does, and the wanted share decides how many.
"""

from __future__ import annotations

from automix.cells import first_cells, grid_of, saliency_of_cells
from automix.masks import Array, Cells, as_float
from automix.mixes import MIXES, Draw


@MIXES.register("attentive_cutmix", guided=True)
def attentive_cutmix(draw: Draw, *, cells: int = 7) -> Cells:
    """Paste the partner's most salient cells, as many as make up ``share``.

    The number of cells is rounded up or down at random, so that the mean share is the wanted one.
    Unguided, random cells take the place of the salient ones.

    Args:
        draw: What was wanted, and what to draw from.
        cells: Cells per side, 7 as in the paper; an image of fewer pixels has one cell a pixel.
    """
    grid = grid_of(draw.size, cells)
    keys: Array
    if draw.partner is None:
        keys = draw.rng.random((len(draw.share), grid[0] * grid[1]))
    else:
        keys = -saliency_of_cells(draw.partner, grid)
    taken = first_cells(keys, draw.share, draw.size, grid, draw.rng)
    return Cells(as_float(taken).reshape(-1, *grid), draw.size)
