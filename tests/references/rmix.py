"""R-Mix, Luong et al. 2023, section 3, as in ``mix_topleast_choose_top`` of the official code."""

from __future__ import annotations

import math
from collections.abc import Sequence

PERCENTILES = [0.99 * i / 9 for i in range(10)]


def pooled(saliency: Sequence, grid: int) -> list[list[float]]:
    """Average a map (h, w) over grid x grid cells; h and w are multiples of the grid."""
    tall, wide = len(saliency) // grid, len(saliency[0]) // grid
    return [
        [
            sum(
                saliency[y][x]
                for y in range(i * tall, (i + 1) * tall)
                for x in range(j * wide, (j + 1) * wide)
            )
            / (tall * wide)
            for j in range(grid)
        ]
        for i in range(grid)
    ]


def quantile(values: Sequence, q: float) -> float:
    """Return the q-th quantile with linear interpolation."""
    ordered = sorted(values)
    place = q * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def salient(saliency: Sequence, grid: int, q: float) -> list[list[bool]]:
    """Return which pixels (h, w) lie in a cell at or above the q-th quantile of the cells."""
    cells = pooled(saliency, grid)
    threshold = quantile([value for row in cells for value in row], q)
    height, width = len(saliency), len(saliency[0])
    return [
        [cells[y * grid // height][x * grid // width] >= threshold for x in range(width)]
        for y in range(height)
    ]


def rmix(
    images: tuple[Sequence, Sequence],
    labels: tuple[Sequence, Sequence],
    masks: tuple[Sequence, Sequence],
    weights: tuple[float, float],
) -> tuple[list, list[float]]:
    """Mix two images (c, h, w) and their labels by two salient masks (h, w).

    Where both masks agree the images are blended by the weights; elsewhere the salient one
    shows. The label counts the three regions, as the paper's does.
    """
    (image_a, image_b), (label_a, label_b), (mask_a, mask_b) = images, labels, masks
    weight_a, weight_b = weights
    height, width = len(mask_a), len(mask_a[0])
    mixed = [[[0.0] * width for _ in range(height)] for _ in image_a]
    same = only_a = only_b = 0
    for y in range(height):
        for x in range(width):
            a, b = mask_a[y][x], mask_b[y][x]
            same += a == b
            only_a += a and not b
            only_b += b and not a
            for c in range(len(image_a)):
                if a == b:
                    mixed[c][y][x] = weight_a * image_a[c][y][x] + weight_b * image_b[c][y][x]
                else:
                    mixed[c][y][x] = image_a[c][y][x] if a else image_b[c][y][x]
    area = height * width
    label = [
        same / area * (weight_a * a + weight_b * b) + only_a / area * a + only_b / area * b
        for a, b in zip(label_a, label_b, strict=True)
    ]
    return mixed, label


def tilted(q: float, tilt: float) -> float:
    """Multiply the odds of keeping a cell, (1 - q) : q, by tilt : (1 - tilt)."""
    if tilt == 1 or q == 0:
        return 0.0
    odds = (1 - q) / q * tilt / (1 - tilt)
    return 1 / (1 + odds)


def spread(cells: Sequence, height: int, width: int) -> list[list[float]]:
    """Give each pixel (height, width) the weight of the cell that it lies in."""
    rows, columns = len(cells), len(cells[0])
    return [
        [cells[y * rows // height][x * columns // width] for x in range(width)]
        for y in range(height)
    ]


def least_mask(own: Sequence, partner: Sequence, weight: float) -> list[list[float]]:
    """Return the partner's weight (h, w) under choose-least, from two salient masks (h, w).

    Where they differ the image shows that is *not* salient there.
    """
    return [
        [weight if a == b else float(a and not b) for a, b in zip(mine, theirs, strict=True)]
        for mine, theirs in zip(own, partner, strict=True)
    ]
