"""What one epoch of classifier training showed."""

from __future__ import annotations

from dataclasses import dataclass

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


def graded(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Grade answers.

    Args:
        logits: (b, k, classes).
        labels: (b, k) int64.

    Returns:
        For each answer, (b, k) float32: its cross-entropy in nats, 1 where it is right, and the
        largest class probability.
    """
    # Classes first in memory: reductions over a short last dimension are many times slower.
    by_class = logits.float().permute(2, 0, 1).contiguous()
    largest, chosen = by_class.max(0)
    log_sum = (by_class - largest).exp().sum(0).log()
    own = by_class.gather(0, labels[None])[0]
    return largest + log_sum - own, (chosen == labels).float(), (-log_sum).exp()
