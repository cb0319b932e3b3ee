"""What a training step makes smaller, image by image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from automix.training.settings import MarginSettings


def training_losses(logits: Tensor, targets: Tensor, margin: MarginSettings) -> Tensor:
    """Return the loss of each image in nats, (n,).

    Args:
        logits: (n, classes) float32.
        targets: (n, classes); a row that does not sum to 1 weighs its image, too.
        margin: What is added for logits that differ more than they should.
    """
    losses = F.cross_entropy(logits, targets, reduction="none")
    return losses + margin.weight * excess(logits, margin.margin) if margin.weight else losses


def losses_and_gradients(
    logits: Tensor, targets: Tensor, margin: MarginSettings, weight: float
) -> tuple[Tensor, Tensor]:
    """Return the loss of each image, (n,), and the gradients (n, classes) of their weighted sum.

    What autograd gives for ``training_losses``, bit by bit. Of the plain loss the gradients are two
    operations, where autograd takes ten to record and to go back through what it is made of.

    Args:
        logits: (n, classes) float32.
        targets: (n, classes).
        margin: As ``training_losses`` takes it.
        weight: Of every image in the sum.
    """
    given = logits.detach()
    if margin.weight:
        losses = training_losses(given.requires_grad_(), targets, margin)
        (gradients,) = torch.autograd.grad(losses, given, torch.full_like(losses, weight))
        return losses.detach(), gradients
    logs = given.log_softmax(1)
    gradients = torch.ops.aten._log_softmax_backward_data(targets * -weight, logs, 1, logs.dtype)
    return -(logs * targets).sum(1), gradients


def excess(logits: Tensor, margin: float) -> Tensor:
    """Return by how much logits (n, classes) lie more than a margin below the largest, (n,).

    The mean over all classes, the largest one among them.
    """
    return F.relu(logits.amax(1, keepdim=True) - logits - margin).mean(1)
