"""What a training step makes smaller, image by image."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from automix.settings import MarginSettings


def training_losses(logits: Tensor, targets: Tensor, margin: MarginSettings) -> Tensor:
    """Return the loss of each image in nats, (n,).

    Args:
        logits: (n, classes) float32.
        targets: (n, classes); a row that does not sum to 1 weighs its image, too.
        margin: What is added for logits that differ more than they should.
    """
    losses = F.cross_entropy(logits, targets, reduction="none")
    return losses + margin.weight * excess(logits, margin.margin) if margin.weight else losses


def excess(logits: Tensor, margin: float) -> Tensor:
    """Return by how much logits (n, classes) lie more than a margin below the largest, (n,).

    The mean over all classes, the largest one among them.
    """
    return F.relu(logits.amax(1, keepdim=True) - logits - margin).mean(1)
