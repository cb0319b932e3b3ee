"""Cutout: erase one box of the image.

Paper: DeVries and Taylor 2017, arXiv:1708.04552, section 3.2.
"""

from __future__ import annotations

import numpy as np

from automix.masks.placing import peak_of, sides_of
from automix.masks.recipes import Filled, Recipe
from automix.masks.shapes import Boxes, as_tensor
from automix.mixes import MIXES, MixInfo, MixInputs


@MIXES.register("cutout", MixInfo(guided=True, keeps_label=True, share_error=0.2))
def cutout(inputs: MixInputs, *, fill: float = 0.0) -> Recipe:
    """Erase a box of ``share`` of the image, before the border clips it; the label stays.

    The classifier must do with what is left. The box may reach over the border, as the paper found
    that it should now and then: of a share of 0.5, about 0.34 is erased.

    Formula:
        M = 1 inside the box, which holds fill, 0 outside
        box: h sqrt(s) by w sqrt(s) pixels, clipped by the border
        centre ~ uniform over the pixels; guided, where the own saliency is largest

    Args:
        inputs: What was wanted, and what to draw from.
        fill: What is left there, in the units of the images; 0 is the mean of normalised ones.

    Guided:
        The box is centred on the image's own most salient pixel, so that it hides what tells the
        class. A peak near the border costs part of the box.

    Differs:
        - The paper's square has a fixed side. Here the side follows from the share, and the box has
          the image's shape; a share of 1 erases all.
        - The guided form is ours.
    """
    size = np.array(inputs.size)
    sides = sides_of(inputs.share, np.sqrt(inputs.share) * np.float32(inputs.size[0]), inputs.size)
    sides[inputs.share >= 1.0] = 2 * max(inputs.size)  # reaches all pixels from wherever it is
    partner = Filled(np.full((len(sides), 1), fill, np.float32))
    if inputs.own is None:
        first = (inputs.rng.random(sides.shape) * size).astype(np.int64) - sides // 2
        return Recipe(Boxes(first, first + sides, inputs.size), partner=partner)
    at = peak_of(inputs.own)
    before, after = (as_tensor(part, at.device) for part in (sides // 2, sides - sides // 2))
    return Recipe(Boxes(at - before, at + after, inputs.size), partner=partner)
