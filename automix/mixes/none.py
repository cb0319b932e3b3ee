"""No mixing: the control that every other method is measured against."""

from __future__ import annotations

from automix.masks.shapes import Constant
from automix.mixes import MIXES, MixInputs


@MIXES.register("none")
def none(inputs: MixInputs) -> Constant:
    """Leave every image as it is; its action always has ratio 0.

    Formula:
        M = 0
    """
    # Only ratio 0 can be asked of it, so the shares are all zeros and serve as the mask.
    return Constant(inputs.share)
