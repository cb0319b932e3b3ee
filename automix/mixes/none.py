"""No mixing: the control that every other method is measured against."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from automix.mixes import MIXES


@MIXES.register("none", guided=False)
def none(
    share: Tensor,
    size: tuple[int, int],
    *,
    ratio: float,
    rng: np.random.Generator,
    own: Tensor | None,
    partner: Tensor | None,
) -> Tensor:
    """Leave every image as it is; its action always has ratio 0."""
    # Only ratio 0 can be asked of it, so ``share`` is all zeros and serves as the mask.
    return share[:, None, None, None]
