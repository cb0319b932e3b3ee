"""R-Mix's choose-least: show the less salient image where the two masks differ.

Paper: Luong et al. 2023, arXiv:2212.04875; a variant in its official code, not in the text:
``mix_topleast_choose_least``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from automix.masks.shapes import Mask
from automix.mixes import MIXES, MixInfo, MixInputs
from automix.mixes.rmix import GRIDS, at_random_percentiles


@MIXES.register("rmix_least", MixInfo(guided=True, least=True, share_error=0.03))
def rmix_least(inputs: MixInputs, *, grids: Sequence[int] = GRIDS) -> Mask:
    """Weigh the partner by ``share`` where both cells agree, by 1 where the image's is salient.

    A hard task: what shows the class is covered. All else is as in R-Mix, and unguided it is
    R-Mix's own random ablation, because random cells have no most and least.

    Formula:
        chosen = cells at or above the q-th percentile of the saliency, for each image
        q ~ uniform over 0, 0.11, ..., 0.99; its odds are tilted by those of the ratio
        M = s where both or neither have chosen, 1 where only the image, 0 where only the partner

    Args:
        inputs: What was wanted, and what to draw from.
        grids: Cells per side, one drawn per image; each divides the last.

    Guided:
        The chosen cells are the most salient ones, by the mean of the map over a cell.

    Differs:
        - In the official code the label still counts the shares of choose-top; here it counts what
          the pixels show.
        - Draws, ratio and grids differ as those of R-Mix do.
    """
    # The partner shows where the image is salient and the partner is not: R-Mix with maps swapped.
    swapped = replace(inputs, own=inputs.partner, partner=inputs.own)
    return at_random_percentiles(swapped, grids)
