"""mixup: blend two whole images.

Paper: Zhang et al. 2018, arXiv:1710.09412, section 2. The guided form weighs each pixel by the
two saliency maps: Kang and Kim 2023, GuidedMixup, arXiv:2306.16612, section 3.3.
"""

from __future__ import annotations

import torch

from automix.masks import Constant, Dense, Mask, as_tensor
from automix.mixes import MIXES, Draw


@MIXES.register("mixup", guided=True, constant=True, guided_share_error=0.09)
def mixup(draw: Draw) -> Mask:
    """Give every pixel the partner weight ``share``; guided, tilt it towards the salient image.

    Guided, a pixel's weight is ``share * p / (share * p + (1 - share) * o)`` with the partner's
    and the image's own saliency p and o. At a share of 1/2 this is GuidedMixup's ``p / (p + o)``;
    the share, which that paper does not have, tilts the odds so that 0 and 1 stay exact.
    """
    if draw.own is None or draw.partner is None:
        return Constant(draw.share)
    weight = as_tensor(draw.share, draw.own.device)[:, None, None, None]
    theirs, ours = weight * draw.partner[:, None], (1 - weight) * draw.own[:, None]
    total = theirs + ours
    # Where neither image is salient there is nothing to tilt by: plain mixup.
    return Dense(torch.where(total > 0, theirs / total, weight))
