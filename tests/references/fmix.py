"""FMix, Harris et al. 2020, section 4 and the official code."""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence


def noise(spectrum: Sequence, height: int, width: int, decay: float) -> list[list[float]]:
    """Add up all waves of a spectrum (h, w // 2 + 1), damped by their frequency; (h, w).

    A wave that the half spectrum leaves out is the mirror of one that is in it, so those count
    twice.
    """
    total = [[0.0] * width for _ in range(height)]
    longest = 1 / max(height, width)
    for j in range(height):
        for k in range(width // 2 + 1):
            down, across = min(j, height - j) / height, k / width
            frequency = max(math.hypot(down, across), longest)
            amplitude = spectrum[j][k] * (longest / frequency) ** decay
            times = 1 if k == 0 or 2 * k == width else 2
            for y in range(height):
                for x in range(width):
                    wave = cmath.exp(2j * math.pi * (j * y / height + k * x / width))
                    total[y][x] += times * (amplitude * wave).real / (height * width)
    return total


def highest(values: Sequence, count: int) -> list[list[float]]:
    """Return a mask (h, w) of the pixels with the highest values."""
    ranked = sorted(((value, y, x) for y, row in enumerate(values) for x, value in enumerate(row)))
    mask = [[0.0] * len(values[0]) for _ in values]
    for _, y, x in ranked[len(ranked) - count :]:
        mask[y][x] = 1.0
    return mask
