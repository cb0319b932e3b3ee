"""Asymmetric CutMix: resize a crop of the partner into a box of another size.

Paper: Huang et al. 2021, SnapMix, arXiv:2012.04846, section 3.2; the name is that of its ablation.
"""

from __future__ import annotations

import numpy as np

from automix.core.settings import Range
from automix.masks.placing import placed_inside, sides_of
from automix.masks.recipes import Recipe
from automix.masks.warps import Fitted
from automix.mixes import MIXES, MixInfo, MixInputs


@MIXES.register("asymmetric_cutmix", MixInfo(moves=True))
def asymmetric_cutmix(inputs: MixInputs, *, concentration: float = 2.0) -> Recipe:
    """Resize a random crop of the partner into a random box that covers ``share``.

    The pixels of SnapMix. Both boxes have the image's shape, but for rounding, and their sizes are
    independent: the crop may be shrunk or enlarged. Pixels are interpolated linearly.

    Formula:
        M = 1 inside the box, 0 outside
        box: h sqrt(s) by w sqrt(s) pixels, anywhere inside the image
        crop: h sqrt(t) by w sqrt(t) pixels, anywhere inside the partner
        t ~ Beta(c r, c (1 - r))
        r: ratio; c: concentration

    Args:
        inputs: What was wanted, and what to draw from.
        concentration: c of the crop's law, above 0; 2 is the published code's Beta(1, 1) at ratio
            0.5, 10 the Beta(5, 5) of its best results.

    Differs:
        - In the official code the border clips both boxes, one pair of boxes serves the batch, and
          nothing is mixed if one is empty. Here both lie inside the image, so that the share is the
          wanted one, and the crop has one pixel at least.
        - The paper's labels are the label rule ``cam_mass``; ``snapmix`` is both together.
    """
    Range(above=0).check("concentration", concentration)
    cropped = inputs.share
    if 0 < inputs.ratio < 1:
        law = concentration * inputs.ratio, concentration * (1 - inputs.ratio)
        cropped = inputs.rng.beta(*law, len(inputs.share)).astype(np.float32)
    target, source = (
        sides_of(share, np.sqrt(share) * np.float32(inputs.size[0]), inputs.size)
        for share in (inputs.share, cropped)
    )
    box = placed_inside(target, inputs.size, inputs.rng)
    crop = placed_inside(np.maximum(source, 1), inputs.size, inputs.rng)
    return Recipe(box, partner=Fitted(crop, box, smooth=True))
