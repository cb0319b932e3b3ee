"""Area: the label tells what the pixels show."""

from __future__ import annotations

from torch import Tensor

from automix.labels import LABEL_RULES


@LABEL_RULES.register("area")
def area(mask: Tensor, share: Tensor) -> Tensor:
    """Weigh the own label by the mean weight of its pixels, after rounding and clipping."""
    return 1 - mask.float().mean((1, 2, 3))
