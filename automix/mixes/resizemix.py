"""ResizeMix: paste the whole partner, shrunk into a box.

Paper: Qin et al. 2020, arXiv:2012.11101, section 3.2.
"""

from __future__ import annotations

import numpy as np

from automix.core.errors import ConfigError
from automix.masks.placing import placed_inside, sides_of
from automix.masks.recipes import Recipe
from automix.masks.shapes import Boxes
from automix.masks.warps import Fitted
from automix.mixes import MIXES, MixInfo, MixInputs


@MIXES.register("resizemix", MixInfo(moves=True))
def resizemix(inputs: MixInputs, *, scope: tuple[float, float] = (0.0, 1.0)) -> Recipe:
    """Shrink the whole partner into a box that covers ``share`` and lies inside the image.

    Unlike a crop, the box always holds what the label names. It has the image's shape but for
    rounding: the width makes up for what the height was rounded by. Each pixel is the nearest of
    the partner's.

    Formula:
        M = 1 inside the box, 0 outside
        box: h a by w a pixels, anywhere inside the image
        a = sqrt(s), brought into scope

    Args:
        inputs: What was wanted, and what to draw from.
        scope: Smallest and largest side of the box, in sides of the image; the paper's is (0.1,
            0.8). A share of 0 or 1 is none or all whatever the scope.

    Differs:
        - The paper draws the side, uniform from 0.1 to 0.8 and one for the batch; here it follows
          from the share, and ``scope`` bounds it.
        - There the box's centre is uniform and the box pushed inside, which prefers the border;
          here its place inside is uniform.
    """
    if not (len(scope) == 2 and 0 <= scope[0] <= scope[1] <= 1):
        raise ConfigError(
            f"scope is {list(scope)}, wanted the smallest and the largest side, from 0 to 1",
            "the paper's is [0.1, 0.8]",
        )
    side = np.sqrt(inputs.share)
    between = (inputs.share > 0) & (inputs.share < 1)
    side = np.where(between, np.clip(side, *scope), side).astype(np.float32)
    box = placed_inside(
        sides_of(side**2, side * inputs.size[0], inputs.size), inputs.size, inputs.rng
    )
    return Recipe(box, partner=Fitted(whole(len(side), inputs.size), box))


def whole(u: int, size: tuple[int, int]) -> Boxes:
    """Return u boxes that are the whole image."""
    return Boxes(np.zeros((u, 2), np.int64), np.tile(size, (u, 1)), size)
