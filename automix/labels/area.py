"""Area: the label tells what the pixels show."""

from __future__ import annotations

from automix.labels import LABEL_RULES, Shown
from automix.masks.shapes import Array


@LABEL_RULES.register("area")
def area(shown: Shown) -> Array:
    """Weigh the own label by the mean weight of its pixels, after rounding and clipping."""
    return 1 - shown.area
