"""What a mix method asks for beyond a mask: images that are moved first, or more than two.

Almost every mix is a mask, ``(1 - mask) * own + mask * partner``. A ``Recipe`` puts something in
the place of the own image or of the partner before they are blended: the partner shrunk into a
box, its blocks moved, a plain colour. ``Layers`` blend any number of images of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor

from automix.masks.pairing import Pairs
from automix.masks.shapes import Array, Cells, Mask, PerDraw, Rows, as_mask, as_tensor, like


class Transform(Protocol):
    """u of them, one for each draw: what stands in the place of an image before the blend."""

    def __len__(self) -> int:
        """Return u."""
        ...

    def __getitem__(self, rows: Rows) -> Self:
        """Return some of them."""
        ...

    def __call__(self, own: Tensor, partner: Tensor) -> Tensor:
        """Return new images (u, c, h, w), from images and their partners, both float."""
        ...

    def maps(self, own: Tensor, partner: Tensor) -> Tensor:
        """Return saliency maps (u, h, w) that lie as the new images do.

        A map sums to the part of its image's mass that is still there: what is cut away is
        missing, what is shrunk weighs as much as before.
        """
        ...


@dataclass(frozen=True, slots=True)
class Recipe:
    """A mask, and what is blended by it if it is not the two images themselves."""

    mask: Mask
    own: Transform | None = None
    """What stands in the place of the own images."""
    partner: Transform | None = None
    """What stands in the place of their partners."""


@dataclass(frozen=True, slots=True)
class Layers:
    """K images of a batch that each shows; for methods that state ``looks`` and ``layers``."""

    sources: Array
    """(n, K) int64: positions in the batches; the first of each row is the image itself."""
    weights: Array
    """(n, K, rows, columns) float32, each cell's sum over K is 1."""
    size: tuple[int, int]
    """(h, w) of the images."""

    def layer(self, number: int) -> Mask:
        """Return the weights of one layer, n masks."""
        return Cells(self.weights[:, number], self.size)

    def masks(self) -> Mask:
        """Return the weight of all that is not the image itself, n masks."""
        return Cells(1 - self.weights[:, 0], self.size)

    def areas(self) -> Tensor:
        """Return how much of each image each layer shows, (n, K) float32."""
        k = self.sources.shape[1]
        return torch.stack([torch.as_tensor(self.layer(i).area()) for i in range(k)], 1)

    def only(self, chosen: np.ndarray) -> Layers:
        """Return layers that show the images themselves where ``chosen``, (n,) bool, is false."""
        kept = like(chosen.astype(np.float32), self.weights)[:, None, None, None]
        alone = np.zeros((1, self.sources.shape[1], 1, 1), np.float32)
        alone[:, 0] = 1
        weights = self.weights * kept + like(alone, self.weights) * (1 - kept)
        return Layers(self.sources, weights, self.size)


def as_recipe(found: Recipe | Mask | Array) -> Recipe:
    """Return a mix function's result as a recipe: a mask alone blends the images themselves."""
    return found if isinstance(found, Recipe) else Recipe(as_mask(found))


def for_each(moved: Transform, pairs: Pairs) -> Transform:
    """Return n transforms, one for each image, of those or of one for each batch."""
    return moved if len(moved) == len(pairs.partner) else moved[pairs.batch]


@dataclass(frozen=True, slots=True)
class Filled(PerDraw):
    """A plain colour in the place of an image: what erasing leaves."""

    colour: Array
    """(u, c or 1) float32, in the units of the images."""

    def __call__(self, own: Tensor, partner: Tensor) -> Tensor:
        """Return plain images, (u, c, h, w)."""
        return as_tensor(self.colour, own.device)[:, :, None, None].to(own).expand_as(own)

    def maps(self, own: Tensor, partner: Tensor) -> Tensor:
        """Return zeros: nothing is left to see."""
        return torch.zeros_like(own)
