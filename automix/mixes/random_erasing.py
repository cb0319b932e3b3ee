"""Random erasing: put noise, or a plain colour, into a box of random shape.

Paper: Zhong et al. 2017, arXiv:1708.04896, section 3.2.
"""

from __future__ import annotations

import math

import numpy as np

from automix.core.settings import Range
from automix.masks.noise import draw_noise
from automix.masks.placing import placed_inside, sides_of
from automix.masks.recipes import Recipe
from automix.mixes import MIXES, MixInfo, MixInputs


@MIXES.register("random_erasing", MixInfo(keeps_label=True))
def random_erasing(
    inputs: MixInputs, *, aspect: float = 0.3, fill: float = 0.0, noise: float = 1.0
) -> Recipe:
    """Erase a box that covers ``share``, of random shape and inside the image; the label stays.

    As if something were in front: tall, wide or square, and of random values rather than of one
    colour.

    Formula:
        M = 1 inside the box, 0 outside
        box: sqrt(s h w k) by sqrt(s h w / k) pixels, anywhere inside the image
        k = aspect^x, x ~ uniform between -1 and 1: height over width
        inside: Normal(fill, noise) at each pixel of each channel

    Args:
        inputs: What was wanted, and what to draw from.
        aspect: Smallest height over width, above 0 and at most 1; 1 erases squares.
        fill: Mean of the noise in the units of the images; 0 is the mean of normalised ones.
        noise: Its standard deviation; 0 leaves a plain colour.

    Differs:
        - The paper draws area and shape until the box fits. Here the area is the share, and a box
          that would not fit is as elongated as fits.
        - Height over width is uniform in its logarithm, as in timm and torchvision: the paper's
          uniform law would make most boxes taller than wide.
        - The paper did best with random values at each pixel; ours are normal, as timm's.
    """
    Range(above=0, most=1).check("aspect", aspect)
    Range(0).check("noise", noise)
    shape = aspect ** inputs.rng.uniform(-1, 1, len(inputs.share))
    height = np.sqrt(inputs.share * math.prod(inputs.size) * shape).astype(np.float32)
    box = placed_inside(sides_of(inputs.share, height, inputs.size), inputs.size, inputs.rng)
    return Recipe(box, partner=draw_noise(len(height), inputs.rng, fill, noise))
