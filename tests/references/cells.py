"""Cells of a grid, one by one."""

from __future__ import annotations

import math
from collections.abc import Sequence


def pooled(saliency: Sequence, rows: int, columns: int) -> list[float]:
    """Average a map (h, w) over each cell; one that ends within a pixel counts all of it."""
    height, width = len(saliency), len(saliency[0])
    means = []
    for i in range(rows):
        for j in range(columns):
            inside = [
                saliency[y][x]
                for y in range(i * height // rows, math.ceil((i + 1) * height / rows))
                for x in range(j * width // columns, math.ceil((j + 1) * width / columns))
            ]
            means.append(sum(inside) / len(inside))
    return means


def cell_of(y: int, x: int, size: tuple[int, int], grid: tuple[int, int]) -> int:
    """Return the number of the cell that a pixel lies in."""
    return y * grid[0] // size[0] * grid[1] + x * grid[1] // size[1]


def mask(
    order: Sequence[int], share: float, size: tuple[int, int], grid: tuple[int, int], luck: float
) -> list[list[float]]:
    """Take cells in an order until the share (of the pixels) is full.

    The cell that no longer fits is taken if luck, in [0, 1), is below the part of it that does.
    """
    height, width = size
    pixels = [0] * (grid[0] * grid[1])
    for y in range(height):
        for x in range(width):
            pixels[cell_of(y, x, size, grid)] += 1
    room = share * height * width
    taken = set()
    for cell in order:
        if luck * pixels[cell] < room:
            taken.add(cell)
        room -= pixels[cell]
    return [
        [float(cell_of(y, x, size, grid) in taken) for x in range(width)] for y in range(height)
    ]
