"""What one epoch of classifier training showed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

LOSS_CAP = 20.0
"""Losses are reported up to this many nats; a diverged training reports the cap."""


@dataclass(frozen=True, kw_only=True)
class EpochMetrics:
    """One record of a training; the test split is never read for it."""

    epoch: int
    """Finished epochs, so the first record of an episode has 0."""
    train_loss: float
    """Cross-entropy in nats on unmixed training images (a fixed probe) with the labels that
    training sees."""
    train_accuracy: float
    """On the same probe, in [0, 1]."""
    val_loss: float
    """Cross-entropy in nats on the validation split, true labels."""
    val_accuracy: float
    """On the validation split, in [0, 1]."""
    val_confidence: float
    """Mean of the largest class probability on the validation split, in [0, 1]."""
    gradient_norm: float
    """Euclidean norm of the parameter gradient at the epoch's last batch."""
    mixed_loss: float
    """Mean loss over the epoch's mixed batches: what the optimizer saw."""
    partner_share: float
    """Mean of 1 - lam over the epoch's images, after rounding and clipping."""
    lr: float
    """Learning rate at the epoch's end."""
    forward_passes: int
    """Samples sent forward this epoch: training, saliency and measuring."""
    backward_passes: int
    """Samples sent backward this epoch: training and saliency."""
    diverged: bool
    """Whether a loss stopped being finite; the other fields then hold the worst values."""


def sample_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of logits (b, k, classes) for labels (b,): (b, k) nats."""
    b, k, classes = logits.shape
    flat = F.cross_entropy(
        logits.reshape(-1, classes), labels.repeat_interleave(k), reduction="none"
    )
    return flat.view(b, k)


def accuracies(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of right answers of logits (b, k, classes) for labels (b,): (k,)."""
    return (logits.argmax(2) == labels[:, None]).float().mean(0)


def confidences(logits: Tensor) -> Tensor:
    """Mean largest class probability of logits (b, k, classes): (k,)."""
    return torch.softmax(logits, 2).amax(2).mean(0)
