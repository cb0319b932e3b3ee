"""Groups of images that are mixed, and what each of them is to weigh."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from automix.masks.method_steps import Step
from automix.masks.pairing import derange
from automix.masks.shapes import as_tensor

SLACK = 0.1
"""How far a mask's area may be from its weight at no cost."""


@dataclass(frozen=True, slots=True)
class Group:
    """The n images in each mixture of a batch, the own image first."""

    who: Tensor
    """(n, b) int64: positions in the batch."""
    weights: Tensor
    """(n, b) float32 in [0, 1], which sum to 1: what each is to weigh."""

    def of(self, values: Tensor) -> Tensor:
        """Return what belongs to the images of each mixture, (n, b, ...), of values (b, ...)."""
        return values[self.who]

    def mixed(self, images: Tensor, masks: Tensor) -> Tensor:
        """Return images (b, c, h, w) blended under masks (n, b, 1, h, w) that sum to 1."""
        return (masks * self.of(images)).sum(0).to(images)

    def targets(self, targets: Tensor) -> Tensor:
        """Return targets (b, k) blended by the weights."""
        return (self.weights.to(targets)[..., None] * self.of(targets)).sum(0)

    def plain(self) -> Tensor:
        """Return the masks of mixup, (n, b, 1, 1, 1): the weights in every pixel."""
        return self.weights[..., None, None, None]

    def missed(self, masks: Tensor) -> Tensor:
        """Return what part of the area shows the wrong image, beyond the slack, (b,)."""
        # What one image has too much another has too little.
        return F.relu((masks.mean((2, 3, 4)) - self.weights).abs() - SLACK).sum(0) / 2

    def with_margin(self, masks: Tensor, margin: float) -> Tensor:
        """Return masks, and those of mixup where the own image is to weigh almost all or nothing.

        Args:
            masks: (n, b, 1, h, w).
            margin: From 0 to 0.5; 0 leaves only what weighs exactly all or nothing to mixup.
        """
        own = self.weights[0]
        near = torch.minimum(own, 1 - own) <= margin
        return torch.where(near[:, None, None, None], self.plain(), masks)


def grouped(step: Step, *, three: bool = False) -> Group:
    """Return the groups of a step, as its pairs were drawn.

    Args:
        step: Where from.
        three: Whether a second partner is drawn for each, and what part of the share it gets.
    """
    return _group(step, step.pairs.partner, step.share, three)


def regrouped(step: Step, *, three: bool = False) -> Group:
    """Draw the groups anew; the shares are those of the step in another order."""
    partner = derange(len(step.images), step.rng)
    return _group(step, partner, step.rng.permutation(step.share), three)


def _group(step: Step, partner: np.ndarray, share: np.ndarray, three: bool) -> Group:
    b, device = len(share), step.images.device
    who, weights = [np.arange(b), partner], [1 - share, share]
    if three:
        # With a uniform split, a Beta(2, 1) share makes all three weights Dirichlet(1, 1, 1).
        split = step.rng.random(b, dtype=np.float32)
        who, weights = [*who, derange(b, step.rng)], [1 - share, share * split, share * (1 - split)]
    return Group(as_tensor(np.stack(who), device), as_tensor(np.stack(weights), device))
