"""Soft crop: shift the image, so that a part of it is cut off, and fill the rest with a colour.

Paper: Liu et al. 2023, Soft Augmentation, arXiv:2211.04625, section 3.
"""

from __future__ import annotations

import numpy as np
import torch

from automix.core.settings import Range
from automix.masks.noise import draw_noise
from automix.masks.placing import sides_of
from automix.masks.recipes import Recipe
from automix.masks.shapes import Boxes, Dense
from automix.masks.warps import Fitted
from automix.mixes import MIXES, MixInfo, MixInputs


@MIXES.register("soft_crop", MixInfo(keeps_label=True, moves=True))
def soft_crop(inputs: MixInputs, *, fill: float = 0.0, spread: float = 1.0) -> Recipe:
    """Shift the image by whole pixels until ``share`` of it is cut off; the label stays.

    The image's own content, seen in part. It is drawn which side cuts off how much; the columns
    bring what is seen as near to ``1 - share`` as whole pixels can.

    Formula:
        M = 1 where no image is left, 0 elsewhere
        (1 - |dy| / h) (1 - |dx| / w) = 1 - s
        1 - |dy| / h = (1 - s)^x, x ~ uniform between 0 and 1; the signs of dy and dx at random
        where M is 1: one colour per image, Normal(fill, spread) in each channel

    Args:
        inputs: What was wanted, and what to draw from.
        fill: Mean of the colour that comes in, in the units of the images; one is drawn per image.
        spread: Its standard deviation in each channel; 0 fills with ``fill``.

    Differs:
        - The paper's offsets along the two sides are independent and normal, and what stays visible
          follows. Here the visible part has the law of every mix.
        - The paper's targets, which soften with what is cut off, are the label rule ``visibility``;
          ``soft_augmentation`` is both together.
    """
    Range(0).check("spread", spread)
    u, size = len(inputs.share), np.array(inputs.size)
    seen = 1 - inputs.share
    rows = seen ** inputs.rng.random(u, dtype=np.float32) * np.float32(size[0])
    sides = sides_of(seen, rows, inputs.size)
    # What stays is at one end of each side before the shift, at the other end after it.
    end = inputs.rng.integers(0, 2, (u, 2))
    kept = np.maximum(sides, 1)  # a source is never empty, even if all of it is cut off
    before, after = (size - kept) * end, (size - sides) * (1 - end)
    visible = Boxes(after, after + sides, inputs.size)
    mask = Dense((1 - visible.dense(torch.device("cpu"))).numpy())
    shifted = Fitted(Boxes(before, before + kept, inputs.size), visible, moves_own=True)
    return Recipe(mask, own=shifted, partner=draw_noise(u, inputs.rng, fill, spread, plain=True))
