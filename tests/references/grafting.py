"""Saliency Grafting, Park et al. 2022: how likely each cell is grafted."""

from __future__ import annotations

import math
from collections.abc import Sequence


def probabilities(
    saliency: Sequence, share: float, part: Sequence, temperature: float
) -> list[float]:
    """Scale a truncated softmax until its mean over the image is the share, by halving.

    Cells below the median stay out until all others are certain.
    """
    median = sorted(saliency)[len(saliency) // 2]
    kept = [value >= median for value in saliency]
    room = sum(area for area, inside in zip(part, kept, strict=True) if inside)
    if share >= room:
        rest = (share - room) / (1 - room) if room < 1 else 1.0
        return [1.0 if inside else rest for inside in kept]
    peak = max(saliency)
    weight = [
        math.exp((value / peak - 1) / temperature) if inside else 0.0
        for value, inside in zip(saliency, kept, strict=True)
    ]

    def scaled(factor: float) -> list[float]:
        return [min(1.0, factor * one) for one in weight]

    low, high = 0.0, 1 / min(one for one in weight if one > 0)
    for _ in range(100):
        middle = (low + high) / 2
        if sum(a * p for a, p in zip(part, scaled(middle), strict=True)) < share:
            low = middle
        else:
            high = middle
    return scaled(high)
