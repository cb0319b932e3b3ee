"""Grids of cells on images of any size: what lies in a cell, cells of a wanted share, and back.

A pixel y of ``side`` lies in the cell ``y * cells // side``, as in ``automix.masks.shapes.Cells``.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from automix.core.errors import ConfigError
from automix.masks.shapes import Array, as_tensor, like, pixels_of_cells

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


def grid_of(size: tuple[int, int], cells: int) -> Grid:
    """Return (rows, columns): ``cells`` a side, or one a pixel where there are fewer pixels.

    Raises:
        ConfigError: If ``cells`` is no whole number above 0.
    """
    if not isinstance(cells, int) or cells < 1:
        raise ConfigError(
            f"cells are {cells!r} a side, wanted a whole number of 1 or more",
            "such as 4: the image is cut into 4 x 4 cells",
        )
    return min(cells, size[0]), min(cells, size[1])


def saliency_of_cells(maps: Tensor, grid: Grid) -> Tensor:
    """Return the mean saliency of each cell, (u, rows * columns) float32, from maps (u, h, w).

    A cell that begins or ends within a pixel counts all of it, as adaptive pooling does.
    """
    return F.adaptive_avg_pool2d(maps[:, None].float(), grid).flatten(1)


def first_cells(
    keys: Array,
    share: np.ndarray,
    size: tuple[int, int],
    grid: Grid,
    rng: np.random.Generator,
) -> Array:
    """Take the cells with the smallest keys, as many as make up the share.

    The last cell, of which only a part is wanted, is taken with that part as its chance. So the
    mean over draws is the wanted share exactly, whatever the order and even if cells differ in
    size; with equal cells it is the number of cells, rounded up or down at random.

    Args:
        keys: (u, rows * columns): the order of the cells, smallest first.
        share: (u,) in [0, 1]: wanted part of the image.
        size: (h, w) of the images.
        grid: (rows, columns).
        rng: Draws which masks get the last cell.

    Returns:
        (u, rows * columns) bool, where the keys are.
    """
    pixels = like(pixels_of_cells(size, *grid).astype(np.float32), keys)
    wanted = like(share * np.float32(size[0] * size[1]), keys)
    part = like(rng.random(len(share), dtype=np.float32), keys)
    order = keys.argsort(1)
    each = pixels[order]
    # In whole pixels, which floats hold exactly, so that a share of 1 takes the last cell too.
    left = wanted[:, None] - (each.cumsum(1) - each)
    taken = part[:, None] * each < left
    return _along(taken, order.argsort(1))


def _inside(side: int, cells: int) -> np.ndarray:
    """Return which pixels lie in each cell, (side, cells) float32."""
    return np.eye(cells, dtype=np.float32)[_cell_of(side, cells)]


def _cell_of(side: int, cells: int) -> np.ndarray:
    return np.arange(side) * cells // side


def _along(values: Array, places: Array) -> Array:
    """Return ``values[i, places[i, j]]``, (u, n)."""
    if isinstance(values, Tensor):
        return values.gather(1, torch.as_tensor(places))
    return np.take_along_axis(values, np.asarray(places), 1)
