"""Label rules, one file each: which share of the target stays with the image's own label.

A rule has the signature::

    rule(mask, share) -> ndarray or Tensor

    mask     the partner's weight that was really used, u masks (``automix.masks.Mask``):
             ``mask.area()`` is their mean weight, (u,), ``mask.dense(device)`` their pixels
    share    (u,) float32: the wanted partner share that the mask was made from
    returns  lam, (u,) float32 in [0, 1]: the weight of the own label
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from automix.masks import Array, Mask
from automix.registry import Registry

LabelRule = Callable[[Mask, np.ndarray], Array]

LABEL_RULES: Registry[LabelRule] = Registry("label rule", __name__)
