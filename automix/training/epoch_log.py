"""What an epoch of stacked trainings adds up to."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


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
        told = [set(members) for members, _ in self._shares]
        who = torch.tensor([[float(m in one) for one in told] for m in range(self._members)])
        shares = [share for _, share in self._shares]
        if len({len(share) for share in shares}) == 1:
            values = len(shares[0]) - torch.stack(shares).sum(1)
        else:
            values = torch.stack([len(share) - share.sum() for share in shares])
        return who.to(values.device) @ values
