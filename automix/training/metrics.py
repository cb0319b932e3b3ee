"""What one epoch of classifier training showed, and the sums that it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
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
    """Mean loss over the mixed batches since the record before: what the optimizer saw."""
    partner_share: float
    """Mean of 1 - lam over the images of that time, after rounding and clipping."""
    lr: float
    """Learning rate at the epoch's end."""
    forward_passes: int
    """Samples sent forward since the record before: training, saliency and measuring."""
    backward_passes: int
    """Samples sent backward since the record before: training and saliency."""
    diverged: bool
    """Whether a loss stopped being finite; the other fields then hold the worst values."""
    val_calibrated_loss: float | None = None
    """After the last epoch: validation loss in nats at the best temperature (``calibrated_loss``).
    Before it, None: it takes some passes over the logits."""


class EpochLog:
    """Sums of one epoch, per member; tensors stay on the device until it ends.

    Args:
        members: k.
        device: Where.
    """

    def __init__(self, members: int, device: torch.device) -> None:
        self.gradient_squares = torch.zeros(members, device=device)
        self.forward = [0] * members
        """Samples sent forward."""
        self.backward = [0] * members
        """Samples sent backward."""
        self._members = members
        self._losses: list[Tensor] = []
        self._shares: list[tuple[Sequence[int], Tensor]] = []

    @property
    def empty(self) -> bool:
        """Whether no step has been noted."""
        return not self._losses

    def count(self, members: Sequence[int] | slice, samples: int, passes: tuple[int, int]) -> None:
        """Count (forward, backward) passes over samples, beside those of the steps."""
        chosen = range(self._members)[members] if isinstance(members, slice) else members
        for member in chosen:
            self.forward[member] += samples * passes[0]
            self.backward[member] += samples * passes[1]

    def mixed(self, members: Sequence[int], own_share: Tensor) -> None:
        """Note the own shares (b,) of a batch that some members trained on."""
        self._shares.append((members, own_share))

    def stepped(self, losses: Tensor) -> None:
        """Note the losses (b, k) of a batch that every member trained on."""
        self._losses.append(losses)

    def columns(self) -> dict[str, Tensor]:
        """Return the means over the epoch, (k,) each; zeros before the first step."""
        if not self._losses:
            nothing = torch.zeros_like(self.gradient_squares)
            return dict.fromkeys(("mixed_loss", "partner_share", "gradient_norm"), nothing)
        losses = torch.cat(self._losses)
        return {
            "mixed_loss": losses.mean(0),
            "partner_share": self._partner_share() / len(losses),
            "gradient_norm": self.gradient_squares.sqrt(),
        }

    def _partner_share(self) -> Tensor:
        """Add the shares up in one product: a small sum a note would cost more than the mixing."""
        notes = [set(members) for members, _ in self._shares]
        had = torch.tensor([[float(m in one) for one in notes] for m in range(self._members)])
        shares = [share for _, share in self._shares]
        if len({len(share) for share in shares}) == 1:
            values = len(shares[0]) - torch.stack(shares).sum(1)
        else:
            values = torch.stack([len(share) - share.sum() for share in shares])
        return had.to(values.device) @ values


NEWTON_STEPS = 8


def calibrated_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy at the temperature that makes it least.

    Mixing makes nets less sure of themselves, right or wrong, and the plain loss takes it for
    knowledge. With one temperature fitted to each net (Guo et al. 2017, section 4.2, on these
    logits themselves) that is gone, and what remains separates accuracies better than the share
    of right answers does, which counts an answer as right or wrong however close it was.

    Args:
        logits: (b, k, classes).
        labels: (b, k) int64.

    Returns:
        (k,) float32, in nats.
    """
    by_class = logits.float().permute(2, 0, 1).contiguous()
    scores = by_class - by_class.max(0).values
    own = scores.gather(0, labels[None])[0].mean(0)
    # The loss is convex in the inverse temperature. Newton steps are taken on its logarithm, at
    # most 1 each, so that they stay above 0 and cannot run away where all answers are right.
    log_inverse = torch.zeros_like(own)
    for _ in range(NEWTON_STEPS):
        inverse = log_inverse.exp()
        weights = (scores * inverse).softmax(0)
        first = (weights * scores).sum(0)
        spread = ((weights * scores.square()).sum(0) - first.square()).mean(0)
        gradient = (first.mean(0) - own) * inverse
        curvature = spread * inverse.square() + gradient.abs()
        log_inverse -= (gradient / curvature.clamp_min(1e-12)).clamp(-1.0, 1.0)
    inverse = log_inverse.exp()
    return (scores * inverse).logsumexp(0).mean(0) - inverse * own


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
    log_sum = (by_class - largest).exp_().sum(0).log_()
    own = by_class.gather(0, labels[None])[0]
    losses = (largest + log_sum).sub_(own)
    return losses, (chosen == labels).float(), log_sum.neg_().exp_()
