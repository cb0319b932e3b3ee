"""Mix methods, one file each: a pure function that builds the partner's mask.

A mask function has the signature::

    method(draw) -> Mask, Tensor, ndarray, Recipe or Layers

``draw`` is a ``MixInputs``: what was wanted, and what to draw from. The mask is the partner's
weight per pixel in [0, 1]: (u, 1, h, w) float32 for u draws, or what decides it (``masks.shapes``:
one ``Constant`` weight, ``Boxes``, ``Cells``), from which pixels are made only where they are
blended. A method that moves images before they are blended returns a ``Recipe``, one that blends
more than two ``Layers`` (``automix.masks.recipes``).

Whatever the draws, a share and ratio of 0 must give a mask of zeros and of 1 a mask of ones. What
else a paper leaves open are keyword-only parameters with defaults, which
``trainer.mix.options=["method.parameter=value"]`` sets.

What a method states in its tags:

- ``guided``: it has a form guided by saliency;
- ``least``: which shows the partner where it is least salient;
- ``looks``: its masks depend on the images, which ``draw`` then brings, one draw an image;
- ``keeps_label``: it shows no other class, so the label stays, unless the label rule knows better;
- ``moves``: its ``Recipe`` puts something else in the place of the image or of its partner;
- ``layers``: it returns ``Layers``;
- ``step``: it makes training steps of its own (``automix.masks.method_steps``), where no mask says
  it;
- ``requires``: what the classifier must offer, a tuple of names in
  ``training.requirements.ABILITIES``;
- ``unguided_requires``: the same, of the unguided form alone;
- ``points``: it mixes point clouds (b, points, coordinates), not images;
- ``constant``: unguided, one weight for all pixels;
- ``share_error``, ``guided_share_error``: how far the mean realised share may be from the wanted
  one, 0.02 if not said.

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

from automix.core.registry import Registry
from automix.masks.method_steps import StepFunction
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
    """(u, c, h, w) float: the images themselves, for methods with the tag ``looks``."""
    pairs: Pairs | None = None
    """Who meets whom, and in which batches, for the same."""


MaskFunction = Callable[..., Recipe | Layers | Mask | Array]
"""Takes a ``MixInputs``, and settings by keyword."""

MixFunction = MaskFunction | StepFunction

MIXES: Registry[MixFunction] = Registry("mix method", __name__)
