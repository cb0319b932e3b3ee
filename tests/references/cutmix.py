"""CutMix, Yun et al. 2019, section 3.1 and the official code's rounding."""

from __future__ import annotations

import math
from collections.abc import Sequence


def box_mask(share: float, height: int, width: int, y: int, x: int) -> list[list[float]]:
    """Paste a box that covers ``share`` of the image, centred at (y, x), clipped by the border."""
    if share >= 1:
        return [[1.0] * width for _ in range(height)]
    half_height = int(height * math.sqrt(share)) // 2
    half_width = int(width * math.sqrt(share)) // 2
    top, bottom = max(0, y - half_height), min(height, y + half_height)
    left, right = max(0, x - half_width), min(width, x + half_width)
    mask = [[0.0] * width for _ in range(height)]
    for row in range(top, bottom):
        for column in range(left, right):
            mask[row][column] = 1.0
    return mask


def peak(saliency: Sequence) -> tuple[int, int]:
    """Return (y, x) of the most salient pixel of a map (h, w); the first of equals."""
    best = (0, 0)
    for y, row in enumerate(saliency):
        for x, value in enumerate(row):
            if value > saliency[best[0]][best[1]]:
                best = (y, x)
    return best


def mean_coverage(share: float, height: int, width: int) -> float:
    """Return the mean area of the box over all centres."""
    area = 0.0
    for y in range(height):
        for x in range(width):
            area += sum(map(sum, box_mask(share, height, width, y, x))) / (height * width)
    return area / (height * width)
