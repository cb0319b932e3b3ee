"""Label rules, one file each: which share of the target stays with the image's own label.

A rule has the signature::

    rule(mask, share) -> Tensor

    mask     (b, 1, h, w) or (b, 1, 1, 1): the partner's weight that was really used
    share    (b,) the wanted partner share that the mask was made from
    returns  lam, (b,) float32 in [0, 1]: the weight of the own label
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from automix.registry import Registry

LabelRule = Callable[[Tensor, Tensor], Tensor]

LABEL_RULES: Registry[LabelRule] = Registry("label rule", __name__)
