"""Mix methods, one file each: a pure function that builds the partner's mask.

A mask function has the signature::

    mask(share, size, *, ratio, rng, own, partner) -> Tensor

    share    (b,) float32 in [0, 1]: wanted share of the partner, one draw an image
    size     (h, w) of the images
    ratio    float: the mean of the law that ``share`` was drawn from, in [0, 1]
    rng      numpy Generator: every other draw
    own, partner   (b, h, w) saliency maps that sum to 1, or None for the unguided form
    returns  (b, 1, h, w), or (b, 1, 1, 1) where it is constant: the partner's weight in [0, 1]

Whatever the draws, a share and ratio of 0 must give a mask of zeros and of 1 a mask of ones.
The tag ``guided`` says that the method has a form guided by saliency.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from torch import Tensor

from automix.registry import Registry


class MaskFunction(Protocol):
    """The signature of a mix method; see the module's text."""

    def __call__(
        self,
        share: Tensor,
        size: tuple[int, int],
        *,
        ratio: float,
        rng: np.random.Generator,
        own: Tensor | None,
        partner: Tensor | None,
    ) -> Tensor:
        """Return the partner's weight per pixel."""
        ...


MIXES: Registry[MaskFunction] = Registry("mix method", __name__)
