"""Training steps of a method's own: mixes that no mask over the images can say.

Features that are mixed inside the net, a second loss, a search for the worst perturbation, a mask
that another net draws. A method that states ``step`` in its ``MixInfo`` is a function::

    method(net, step) -> StepLoss

``net`` is the classifier in training mode, a ``torch.nn.Module`` from images (b, c, h, w) to
logits (b, k); gradients reach its weights. A pass that is not to leave a trace in its running
statistics and its dropout goes into ``unseen(net)``. Draws come from ``step.rng`` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from automix.masks.pairing import Pairs
from automix.masks.shapes import as_tensor
from automix.nets.stacking import frozen_running_statistics, same_draws_afterwards


class MethodState(Protocol):
    """What a method keeps from step to step, beside the classifier that it trains."""

    def follow(self, weights: Mapping[str, Tensor]) -> None:
        """Look at the classifier after a step, whichever method made it.

        Args:
            weights: Its weights and statistics by name; not to be kept or changed.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of everything, in tensors, numbers, dicts and lists of them."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` returned."""
        ...


@dataclass(frozen=True, slots=True)
class Setup:
    """What a method's state is made from."""

    net: nn.Module
    """The classifier as it is now: a copy, which the state may keep."""
    shape: tuple[int, int, int]
    """(c, h, w) of the images."""
    classes: int
    seed: int
    """Draws what begins at random."""
    steps: int
    """Optimizer steps of the whole training."""
    device: torch.device
    settings: Mapping[str, Any]
    """The method's, by name."""


MakeState = Callable[[Setup], MethodState]


@dataclass(frozen=True, slots=True)
class Step:
    """One batch of one classifier, not mixed yet."""

    images: Tensor
    """(b, c, h, w) float; not to be modified."""
    targets: Tensor
    """(b, k) class probabilities."""
    share: np.ndarray
    """(b,) float32 in [0, 1]: wanted share of the partner."""
    ratio: float
    """The mean of the law that ``share`` was drawn from."""
    pairs: Pairs
    """The partner of each image."""
    rng: np.random.Generator
    """Every draw."""
    maps: Tensor | None = None
    """(b, h, w) saliency maps that sum to 1, if the action names a provider."""
    state: Any = None
    """The method's own ``MethodState``, if it keeps one."""

    @property
    def partner(self) -> Tensor:
        """(b,) int64: position of each image's partner."""
        return as_tensor(self.pairs.partner, self.images.device)

    def mixed_targets(self, lam: Tensor) -> Tensor:
        """Return ``lam * own + (1 - lam) * partner`` of the targets, (b, k), for lam (b,)."""
        lam = lam.to(self.targets)[:, None]
        return lam * self.targets + (1 - lam) * self.targets[self.partner]

    @property
    def own_share(self) -> Tensor:
        """(b,) float32: 1 - share, on the images' device."""
        return as_tensor(1 - self.share, self.images.device)


@dataclass(frozen=True, slots=True)
class StepLoss:
    """What a step makes smaller, and what it did."""

    losses: Tensor
    """(b,) float32 with a graph: their mean goes backward."""
    own_share: Tensor
    """(b,) float32 in [0, 1]: share of the image's own content."""
    passes: tuple[int, int] = (0, 0)
    """Forward and backward passes of the batch beyond the one of each that every step takes."""


StepFunction = Callable[..., StepLoss]
"""Takes a net and a ``Step``, and settings by keyword."""


def soft_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of each image in nats, (b,), against class probabilities (b, k)."""
    return F.cross_entropy(logits.float(), targets, reduction="none")


@contextmanager
def unseen(net: nn.Module) -> Iterator[None]:
    """Let a net be asked without a trace in its running statistics and the dropout of others."""
    device = next(net.parameters()).device
    with frozen_running_statistics(net), same_draws_afterwards(device):
        yield
