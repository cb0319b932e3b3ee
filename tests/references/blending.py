"""The blend of two images and of two labels, pixel by pixel."""

from __future__ import annotations

import math
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


def blended_bytes(own: Sequence, partner: Sequence, mask: Sequence) -> list[list[list[int]]]:
    """Mix two images of bytes: rounded to the nearest, halves up."""
    mixed = blended(own, partner, mask)
    return [[[math.floor(value + 0.5) for value in row] for row in channel] for channel in mixed]


def before(batch_size: int, n: int) -> list[int]:
    """Return who stands before each image; before the first of a batch stands its last."""
    partner = []
    for i in range(n):
        first = i // batch_size * batch_size
        last = min(first + batch_size, n) - 1
        partner.append(i - 1 if i > first else last)
    return partner


def mean(mask: Sequence) -> float:
    """Mean of a mask (h, w)."""
    return sum(sum(row) for row in mask) / (len(mask) * len(mask[0]))


def mixed_label(own: Sequence, partner: Sequence, lam: float) -> list[float]:
    """Mix two rows of class probabilities; lam is the weight of the own one."""
    return [lam * a + (1 - lam) * b for a, b in zip(own, partner, strict=True)]
