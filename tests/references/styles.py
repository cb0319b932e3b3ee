"""MixStyle (Zhou et al. 2021, section 2.2) and mixed amplitudes (FDA, section 3.1)."""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence

from tests.references.saliency import dft


def statistics(image: Sequence) -> tuple[float, float]:
    """Return mean and standard deviation of an image (h, w)."""
    values = [value for row in image for value in row]
    mean = sum(values) / len(values)
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))


def mixstyle(own: Sequence, partner: Sequence, share: float) -> list[list[float]]:
    """Normalise an image and give it mixed statistics."""
    (mean, std), (other_mean, other_std) = statistics(own), statistics(partner)
    beta = (1 - share) * mean + share * other_mean
    gamma = (1 - share) * std + share * other_std
    return [[gamma * (value - mean) / std + beta for value in row] for row in own]


def mixed_amplitude(
    own: Sequence, partner: Sequence, share: float, reach: int
) -> list[list[float]]:
    """Mix the amplitudes of frequencies up to ``reach`` cycles a side; keep the own phase."""
    height, width = len(own), len(own[0])
    mine, theirs = dft(own, -1), dft(partner, -1)
    for u in range(height):
        for v in range(width):
            if min(u, height - u) <= reach and min(v, width - v) <= reach:
                amplitude = (1 - share) * abs(mine[u][v]) + share * abs(theirs[u][v])
                mine[u][v] = amplitude * cmath.exp(1j * cmath.phase(mine[u][v]))
    return [[value.real / (height * width) for value in row] for row in dft(mine, 1)]
