"""Area: the label tells what the pixels show."""

from __future__ import annotations

import numpy as np

from automix.labels import LABEL_RULES
from automix.masks import Array, Mask


@LABEL_RULES.register("area")
def area(mask: Mask, share: np.ndarray) -> Array:
    """Weigh the own label by the mean weight of its pixels, after rounding and clipping."""
    return 1 - mask.area()
