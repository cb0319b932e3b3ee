"""mixup: blend two whole images.

Paper: Zhang et al. 2018, arXiv:1710.09412, section 2. The guided form weighs each pixel by the
two saliency maps: Kang and Kim 2023, GuidedMixup, arXiv:2306.16612, section 3.3.
"""

from __future__ import annotations

import torch

from automix.masks.shapes import Constant, Dense, Mask, as_tensor
from automix.mixes import MIXES, MixInfo, MixInputs


@MIXES.register("mixup", MixInfo(guided=True, constant=True, guided_share_error=0.09))
def mixup(inputs: MixInputs) -> Mask:
    """Give every pixel the partner weight ``share``; guided, tilt it towards the salient image.

    Both images are seen everywhere, one through the other, so that a classifier is asked to be
    linear between them. No share is lost to rounding.

    Formula:
        M = s                              s: the wanted share
        M = s p / (s p + (1 - s) o)        guided; p, o: saliency of the partner and of the image

    Guided:
        Each pixel leans to the image that is salient there. Where neither is, it keeps the share.

    Differs:
        - Guided, the paper has no share: at 1/2 ours is its ``p / (p + o)``. Elsewhere the share
          tilts the odds, so that 0 and 1 stay exact.
        - Guided, partners are paired as everywhere, not by the paper's greedy search for
          dissimilar maps: pairing is a setting of all methods.
    """
    if inputs.own is None or inputs.partner is None:
        return Constant(inputs.share)
    weight = as_tensor(inputs.share, inputs.own.device)[:, None, None, None]
    theirs, ours = weight * inputs.partner[:, None], (1 - weight) * inputs.own[:, None]
    total = theirs + ours
    # Where neither image is salient there is nothing to tilt by: plain mixup.
    return Dense(torch.where(total > 0, theirs / total, weight))
