"""The blend of two images and of two labels, pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence


def blended(own: Sequence, partner: Sequence, mask: Sequence) -> list[list[list[float]]]:
    """Mix two images (c, h, w) by a mask (h, w): the weight of the partner per pixel."""
    return [
        [
            [
                (1 - mask[y][x]) * own[c][y][x] + mask[y][x] * partner[c][y][x]
                for x in range(len(mask[0]))
            ]
            for y in range(len(mask))
        ]
        for c in range(len(own))
    ]


def mean(mask: Sequence) -> float:
    """Mean of a mask (h, w)."""
    return sum(sum(row) for row in mask) / (len(mask) * len(mask[0]))


def mixed_label(own: Sequence, partner: Sequence, lam: float) -> list[float]:
    """Mix two rows of class probabilities; lam is the weight of the own one."""
    return [lam * a + (1 - lam) * b for a, b in zip(own, partner, strict=True)]
