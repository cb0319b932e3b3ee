"""CutMix: paste one box of the partner.

Paper: Yun et al. 2019, arXiv:1905.04899, section 3.1. The guided form centres the box on the
partner's most salient pixel: Uddin et al. 2021, SaliencyMix, arXiv:2006.01791, section 3.
"""

from __future__ import annotations

import numpy as np

from automix.masks.placing import peak_of
from automix.masks.shapes import Boxes, as_tensor
from automix.mixes import MIXES, MixInfo, MixInputs


@MIXES.register("cutmix", MixInfo(guided=True, share_error=0.21))
def cutmix(inputs: MixInputs) -> Boxes:
    """Replace one box in each image by the same box of its partner.

    Each pixel belongs to one image, and no part of the picture is blurred or empty. The box covers
    ``share`` of the image before the border clips it, and its centre is uniform over the pixels,
    so the realised share is smaller: asked for 0.5, about 0.31 is got at 224 pixels, 0.30 at 32
    and 0.23 at 8, where rounding down weighs more (the official code does the same).

    Formula:
        M = 1 inside the box, 0 outside
        box = centre +- (floor(h sqrt(s)) // 2, floor(w sqrt(s)) // 2), clipped by the border
        centre ~ uniform over the pixels; guided, where the partner's saliency is largest

    Guided:
        The box is centred on the partner's most salient pixel, so that it holds what the label
        names. A peak near the border costs half of the box.

    Differs:
        - A share of 1 takes the whole image, which a box with a random centre would not.
        - Guided, each image follows its own partner's peak. The reference code uses the map of one
          image for the whole batch, which some users found to train better (SaliencyMix issue 2);
          we kept what the paper says.
        - Guided, the map comes from any saliency provider; the paper's comes from OpenCV.
    """
    share, size = inputs.share[:, None], np.array(inputs.size)
    # An odd edge loses a pixel, as in the official code. A share of 1 takes the whole image, which
    # a box with a random centre would not: it reaches beyond the border from wherever it is.
    half = (np.sqrt(share) * size).astype(np.int64) >> 1
    half[inputs.share >= 1.0] = max(inputs.size)
    if inputs.partner is None:
        centre = (inputs.rng.random((len(share), 2)) * size).astype(np.int64)
        return Boxes(centre - half, centre + half, inputs.size)
    at = peak_of(inputs.partner)
    reach = as_tensor(half, at.device)
    return Boxes(at - reach, at + reach, inputs.size)
