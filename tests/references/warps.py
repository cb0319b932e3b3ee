"""One box of an image fitted into another: ResizeMix, SnapMix's pixels, a shift; and erasing.

A box is (top, left, bottom, right), the last two not in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Box = tuple[int, int, int, int]


def nearest(image: Sequence, source: Box, target: Box) -> dict[tuple[int, int], float]:
    """Return the values at the places of ``target`` of an image (h, w), each the nearest one."""
    (a, b, c, d), (top, left, bottom, right) = source, target
    return {
        (y, x): image[a + math.floor((y - top) * (c - a) / (bottom - top))][
            b + math.floor((x - left) * (d - b) / (right - left))
        ]
        for y in range(top, bottom)
        for x in range(left, right)
    }


def linear(image: Sequence, source: Box, target: Box) -> dict[tuple[int, int], float]:
    """Return the same interpolated between pixels; corners fall on corners."""
    (a, b, c, d), (top, left, bottom, right) = source, target
    values = {}
    for y in range(top, bottom):
        for x in range(left, right):
            at_y = a + (y - top) * (c - a - 1) / max(bottom - top - 1, 1)
            at_x = b + (x - left) * (d - b - 1) / max(right - left - 1, 1)
            values[y, x] = sum(
                max(0, 1 - abs(at_y - i)) * max(0, 1 - abs(at_x - j)) * image[i][j]
                for i in range(a, c)
                for j in range(b, d)
            )
    return values


def moved_mass(saliency: Sequence, source: Box, target: Box, parts: int) -> list[list[float]]:
    """Spread the mass of each pixel of ``source`` over where it goes, cut into parts a side."""
    (a, b, c, d), (top, left, bottom, right) = source, target
    moved = [[0.0] * len(saliency[0]) for _ in saliency]
    for i in range((c - a) * parts):
        for j in range((d - b) * parts):
            y = top + (i + 0.5) / parts * (bottom - top) / (c - a)
            x = left + (j + 0.5) / parts * (right - left) / (d - b)
            moved[int(y)][int(x)] += saliency[a + i // parts][b + j // parts] / parts**2
    return moved


def erased(image: Sequence, box: Box, fill: float) -> list[list[float]]:
    """Put a value into a box of an image (h, w); what of it lies outside is ignored."""
    top, left, bottom, right = box
    return [
        [fill if top <= y < bottom and left <= x < right else value for x, value in enumerate(row)]
        for y, row in enumerate(image)
    ]


def shifted(image: Sequence, dy: int, dx: int, fill: float) -> list[list[float]]:
    """Shift an image (h, w) by whole pixels; a value comes in from outside."""
    height, width = len(image), len(image[0])
    return [
        [
            image[y - dy][x - dx] if 0 <= y - dy < height and 0 <= x - dx < width else fill
            for x in range(width)
        ]
        for y in range(height)
    ]


def visible(dy: int, dx: int, height: int, width: int) -> float:
    """Return which part stays visible (Soft Augmentation, section 3)."""
    return (1 - abs(dx) / width) * (1 - abs(dy) / height)
