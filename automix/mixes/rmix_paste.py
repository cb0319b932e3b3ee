"""R-Mix's cut and paste: paste the partner's cells above a percentile, blend nothing.

Paper: Luong et al. 2023, arXiv:2212.04875; a variant in its official code, not in the text:
``cut_top_and_paste``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from automix.masks.grids import first_cells, saliency_of_cells
from automix.masks.shapes import Array, Cells, as_float, like
from automix.mixes import MIXES, MixInfo, MixInputs
from automix.mixes.rmix import GRIDS, on_random_grids


@MIXES.register("rmix_paste", MixInfo(guided=True))
def rmix_paste(inputs: MixInputs, *, grids: Sequence[int] = GRIDS) -> Cells:
    """Paste the partner's most salient cells on R-Mix's random grids, as many as make up ``share``.

    The share is the part above the percentile: at ratio 0.5 the percentile is uniform, as in R-Mix.
    The number of cells is rounded up or down at random, so that the mean share is the wanted one.
    Unguided, random cells take the place of the salient ones.

    Formula:
        M = 1 in the cells taken, 0 elsewhere
        cells taken = the most salient ones that make up s, on a grid of 2x2 or 4x4; of the last
                      one, the part that is wanted is the chance to be taken

    Args:
        inputs: What was wanted, and what to draw from.
        grids: Cells per side, one drawn per image; each divides the last.

    Guided:
        Cells are taken in the order of the mean of the partner's map over them.

    Differs:
        - The official code keeps the cells of the image above the percentile, and the partner fills
          the rest. Here they are pasted from the partner, which is the same with the names swapped.
        - The percentile follows from the wanted share, so that the ratio means what it means
          elsewhere.
        - Grids are drawn as for R-Mix, one for each image.
    """

    def weigh(chosen: np.ndarray, grid: int) -> Array:
        keys: Array
        if inputs.partner is None:
            keys = inputs.rng.random((len(chosen), grid * grid))
        else:
            rows = like(chosen, inputs.partner)
            keys = -saliency_of_cells(inputs.partner[rows], (grid, grid))
        return as_float(
            first_cells(keys, inputs.share[chosen], inputs.size, (grid, grid), inputs.rng)
        )

    return on_random_grids(inputs, grids, weigh)
