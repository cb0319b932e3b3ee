"""mixup (Zhang et al. 2018, section 2) and GuidedMixup (Kang and Kim 2023, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence


def constant_mask(share: float, height: int, width: int) -> list[list[float]]:
    """Weigh every pixel alike."""
    return [[share] * width for _ in range(height)]


def guided_mask(own: Sequence, partner: Sequence) -> list[list[float]]:
    """Weigh each pixel by the partner's part of the saliency there: p / (p + o)."""
    return [
        [p / (p + o) for o, p in zip(own_row, partner_row, strict=True)]
        for own_row, partner_row in zip(own, partner, strict=True)
    ]


def tilted_mask(own: Sequence, partner: Sequence, share: float) -> list[list[float]]:
    """Multiply the odds of the partner, p : o, by those of the share, share : (1 - share)."""
    if share in (0, 1):
        return constant_mask(share, len(own), len(own[0]))
    odds = share / (1 - share)
    return [
        [odds * p / (odds * p + o) for o, p in zip(own_row, partner_row, strict=True)]
        for own_row, partner_row in zip(own, partner, strict=True)
    ]
