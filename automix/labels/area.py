"""Area: the label says what the pixels show."""

from __future__ import annotations

from automix.labels import LABEL_RULES, MixRecord
from automix.masks.shapes import Array


@LABEL_RULES.register("area")
def area(record: MixRecord) -> Array:
    """Weigh the own label by the mean weight of its pixels, after rounding and clipping."""
    return 1 - record.area
