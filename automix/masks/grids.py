"""Grids of cells on images of any size: sums over cells, their areas, and values back on pixels.

A pixel y of ``side`` lies in the cell ``y * cells // side``, as in ``automix.masks.shapes.Cells``.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from automix.masks.shapes import as_tensor

Grid = tuple[int, int]
"""Rows and columns."""


def fitted(cells: int, size: tuple[int, int]) -> Grid:
    """Return a grid of so many cells a side, or of fewer, so that every cell holds a pixel.

    Fewer means the next powers of 2: of ``cells`` that are one, each grid divides the finer ones.
    """
    rows, columns = (min(cells, 1 << (side.bit_length() - 1)) for side in size)
    return rows, columns


def summed(maps: Tensor, grid: Grid) -> Tensor:
    """Return what lies in each cell, (u, rows, columns), of maps (u, h, w)."""
    down, across = (_inside(s, g) for s, g in zip(maps.shape[1:], grid, strict=True))
    return as_tensor(down.T, maps.device) @ maps.float() @ as_tensor(across, maps.device)


def parts(size: tuple[int, int], grid: Grid) -> np.ndarray:
    """Return each cell's part of the image, (rows, columns) float32."""
    down, across = (_inside(s, g).mean(0) for s, g in zip(size, grid, strict=True))
    return np.outer(down, across)


def spread(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the value of the cell that each pixel, or each finer cell, lies in: (u, h, w)."""
    for axis, side in zip((1, 2), size, strict=True):
        place = torch.from_numpy(_cell_of(side, values.shape[axis]))
        values = values.index_select(axis, as_tensor(place, values.device))
    return values


def _inside(side: int, cells: int) -> np.ndarray:
    """Return which pixels lie in each cell, (side, cells) float32."""
    return np.eye(cells, dtype=np.float32)[_cell_of(side, cells)]


def _cell_of(side: int, cells: int) -> np.ndarray:
    return np.arange(side) * cells // side
