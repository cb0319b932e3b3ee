"""Mix methods, one file each: a pure function that builds the partner's mask.

A mask function has the signature::

    method(draw) -> Mask, Tensor or ndarray

``draw`` is a ``Draw``: what was wanted, and what to draw from. The mask is the partner's weight
per pixel in [0, 1]: (u, 1, h, w) float32 for u draws, or what decides it (``automix.masks``: one
``Constant`` weight, ``Boxes``, ``Cells``), from which pixels are made only where they are blended.

Whatever the draws, a share and ratio of 0 must give a mask of zeros and of 1 a mask of ones.
The tag ``guided`` says that the method has a form guided by saliency.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from automix.masks import Array, Mask
from automix.registry import Registry


@dataclass(frozen=True, slots=True)
class Draw:
    """What u masks are made from: one for each image, or one for each batch."""

    share: np.ndarray
    """(u,) float32 in [0, 1]: wanted share of the partner."""
    size: tuple[int, int]
    """(h, w) of the images."""
    ratio: float
    """The mean of the law that ``share`` was drawn from, in [0, 1]."""
    rng: np.random.Generator
    """Every other draw."""
    own: Tensor | None = None
    """(u, h, w) saliency maps of the images, which sum to 1, or None for the unguided form."""
    partner: Tensor | None = None
    """The same of the partners."""


MaskFunction = Callable[[Draw], Mask | Array]

MIXES: Registry[MaskFunction] = Registry("mix method", __name__)
