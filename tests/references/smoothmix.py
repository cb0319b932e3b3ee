"""SmoothMix, Lee et al. 2020, section 3: a Gaussian bump."""

from __future__ import annotations

import math


def bump(centre: tuple[float, float], sigma: float, height: int, width: int) -> list[list[float]]:
    """Return exp(-distance^2 / (2 sigma^2)) of each pixel's middle, all in sides of the image."""
    mask = []
    for y in range(height):
        row = []
        for x in range(width):
            down, across = (y + 0.5) / height - centre[0], (x + 0.5) / width - centre[1]
            row.append(math.exp(-(down**2 + across**2) / (2 * sigma**2)))
        mask.append(row)
    return mask


def sigma_for(share: float, centre: tuple[float, float], height: int, width: int) -> float:
    """Return the sigma at which the mean of the bump is the share: try all, in small steps up."""
    sigma = 1e-3
    while sum(map(sum, bump(centre, sigma, height, width))) / (height * width) < share:
        sigma *= 1.01
    return sigma
