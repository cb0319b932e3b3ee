"""R-Mix's choose-least: where the two salient masks differ, the *less* salient image shows.

A variant in the official code of R-Mix (Luong et al. 2023, arXiv:2212.04875), not in the paper:
``mix_topleast_choose_least``. There the label still counts the shares of choose-top; here it
counts what the pixels show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from automix.masks import Mask
from automix.mixes import MIXES, Draw
from automix.mixes.rmix import GRIDS, at_random_percentiles


@MIXES.register("rmix_least", guided=True, least=True, share_error=0.03)
def rmix_least(draw: Draw, *, grids: Sequence[int] = GRIDS) -> Mask:
    """Weigh the partner by ``share`` where both cells agree, by 1 where the image's is salient.

    A hard task: what tells the class is covered. Unguided it is R-Mix's own random ablation,
    because random cells have no most and least.

    Args:
        draw: What was wanted, and what to draw from.
        grids: Cells per side, one drawn per image; each divides the last.
    """
    # The partner shows where the image is salient and the partner is not: R-Mix with maps swapped.
    swapped = replace(draw, own=draw.partner, partner=draw.own)
    return at_random_percentiles(swapped, grids)
