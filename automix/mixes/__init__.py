"""Mix methods, one file each: a pure function that builds the partner's mask.

A mask function has the signature::

    method(inputs) -> Mask, Tensor, ndarray, Recipe or Layers

``inputs`` is a ``MixInputs``: what was wanted, and what to draw from. The mask is the partner's
weight per pixel in [0, 1]: (u, 1, h, w) float32 for u draws, or what decides it (``masks.shapes``:
one ``Constant`` weight, ``Boxes``, ``Cells``), from which pixels are made only where they are
blended. A method that moves images before they are blended returns a ``Recipe``, one that blends
more than two ``Layers`` (``automix.masks.recipes``).

Whatever the draws, a share and ratio of 0 must give a mask of zeros and of 1 a mask of ones. What
else a paper leaves open are keyword-only parameters with defaults, which
``trainer.mix.options=["method.parameter=value"]`` sets.

What its users ask about a method it states in its ``MixInfo``.

The pages of ``docs/mixes`` are made of the docstrings (``python -m tools.mix_pages``). A module
begins with ``<Published name>: <what it does>.``; its other paragraphs are the sources, the first
of them ``Paper: <authors, year, arXiv id, section>``. The text of the function is the idea, then
come sections, each a heading with indented text below it: ``Formula:``, shown as it stands;
``Args:``, the settings, which are keyword-only parameters; ``Guided:``, what saliency changes;
``Differs:``, where it is not the paper's method and why, as items that begin with ``-``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from automix.core.registry import NetInfo, Registry
from automix.masks.method_steps import MakeState, StepFunction
from automix.masks.pairing import Pairs
from automix.masks.recipes import Layers, Recipe
from automix.masks.shapes import Array, Mask


@dataclass(frozen=True, slots=True)
class MixInputs:
    """What u masks are made from: one for each image, or one for each batch."""

    share: np.ndarray
    """(u,) float32 in [0, 1]: wanted share of the partner."""
    size: tuple[int, int]
    """(h, w) of the images; of point clouds (points, 1)."""
    ratio: float
    """The mean of the law that ``share`` was drawn from, in [0, 1]."""
    rng: np.random.Generator
    """Every other draw."""
    own: Tensor | None = None
    """(u, h, w) saliency maps of the images, which sum to 1, or None for the unguided form."""
    partner: Tensor | None = None
    """The same of the partners."""
    images: Tensor | None = None
    """(u, c, h, w) float: the images themselves, for methods that state ``looks``."""
    pairs: Pairs | None = None
    """The partner of each image, and the batches, for the same."""


MaskFunction = Callable[..., Recipe | Layers | Mask | Array]
"""Takes a ``MixInputs``, and settings by keyword."""

MixFunction = MaskFunction | StepFunction


@dataclass(frozen=True, kw_only=True)
class MixInfo(NetInfo):
    """What a method states about itself."""

    guided: bool = False
    """It has a form guided by saliency."""
    least: bool = False
    """Guided, it shows the partner where that is least salient."""
    looks: bool = False
    """Its masks depend on the images, which the ``MixInputs`` then bring, one draw an image."""
    keeps_label: bool = False
    """It shows no other class, so the label stays, unless the label rule knows better."""
    moves: bool = False
    """Its ``Recipe`` puts something else in the place of the image or of its partner."""
    layers: bool = False
    """It returns ``Layers``."""
    points: bool = False
    """It mixes point clouds (b, points, coordinates), not images."""
    constant: bool = False
    """Unguided, it gives all pixels one weight."""
    share_error: float = 0.02
    """How far the mean realised share may be from the wanted one."""
    guided_share_error: float | None = None
    """The same of the guided form, if it differs."""
    unguided_requires: tuple[str, ...] = ()
    """What the classifier must offer besides, to the unguided form alone."""
    step: bool = False
    """It makes training steps of its own (``automix.masks.method_steps``): no mask says it."""
    state: MakeState | None = None
    """Of a step: makes what it keeps from step to step; learned mixers keep something."""
    check: Callable[..., None] | None = None
    """Of a step: takes the method's settings by keyword and raises ConfigError for those that
    cannot be used; called before a training run begins."""

    def required(self, *, guided: bool) -> tuple[str, ...]:
        """Return what the classifier must offer to the guided or to the unguided form."""
        return self.requires if guided else self.requires + self.unguided_requires

    @property
    def needs(self) -> tuple[str, ...]:
        """Everything that the method asks of a training run."""
        own = ("gradient",) * self.step + ("state",) * (self.state is not None)
        return super().needs + own


MIXES: Registry[MixFunction, MixInfo] = Registry("mix method", MixInfo, __name__)
