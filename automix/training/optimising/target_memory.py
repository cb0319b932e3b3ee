"""Self-adaptive targets: what a classifier makes of its labels as it learns.

Huang et al. 2020, arXiv:2002.10319. Where we differ: the paper's code moves the targets of a batch
within its step, from predictions on the augmented images; mixed images say nothing of one
label, so ours move once an epoch, from the images as they are, in evaluation mode. And its weights
have the mean 1 over a batch, ours over the training images: each label then brings its own weight
into whatever it is mixed with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from automix.nets.stacking import Stack
from automix.training.batches.task_tensors import TaskTensors
from automix.training.optimising.precision import autocast


class TargetMemory:
    """A target for each training image of one member.

    Args:
        targets: (n, classes) class probabilities to start from; copied.
    """

    def __init__(self, targets: Tensor) -> None:
        self._targets = targets.clone()
        self._weigh()

    def _weigh(self) -> None:
        sureness = self._targets.amax(1, keepdim=True)
        self._weight = sureness / sureness.mean()

    def move(self, said: Tensor, momentum: float) -> None:
        """Move the targets towards class probabilities (n, classes), the less the more momentum."""
        self._targets = torch.lerp(said, self._targets, momentum)
        self._weigh()

    def targets(self, index: Tensor) -> Tensor:
        """Return targets (b, classes) of images (b,), each times its image's weight in the loss."""
        return self._targets[index] * self._weight[index]

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the targets."""
        return {"targets": self._targets.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a copy of a state."""
        self._targets = state["targets"].to(self._targets.device, copy=True)
        self._weigh()


@torch.no_grad()
def probabilities(
    network: Stack, tasks: Sequence[TaskTensors], precision: str, at_once: int
) -> Tensor:
    """Return what each member says of its training images, unmixed, in evaluation mode.

    Args:
        network: The members' nets.
        tasks: That of each member.
        precision: As ``trainer.precision``.
        at_once: Images in a pass.

    Returns:
        (n, k, classes) float32, n of the member with the most images; those with fewer repeat their
        last.
    """
    evaluate = network.evaluator()
    different, device = {id(data): data for data in tasks}, tasks[0].targets.device
    n, parts = max(len(data.train) for data in tasks), []
    for rows in torch.arange(n, device=device).split(at_once):
        shown = {
            key: data.train[rows.clamp(max=len(data.train) - 1)] for key, data in different.items()
        }
        # Images for each member, or once for all of them.
        asked = tasks if len(different) > 1 else tasks[:1]
        with autocast(precision, device):
            logits = evaluate(torch.stack([shown[id(data)] for data in asked], 1))
        parts.append(logits.float().softmax(2))
    return torch.cat(parts)
