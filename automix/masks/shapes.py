"""Masks: the partner's weight per pixel, kept as what decides it until pixels are asked for.

A box is four numbers and R-Mix sixteen cells. As such they are drawn, measured and moved; only the
blend needs pixels, and it makes them for a few images at a time. What the host's generator decides
is numpy (an operation on a hundred numbers costs a third of torch's), what saliency on a device
decides stays a tensor there: nothing here waits for a device.

Every kind holds u masks, one for each draw: one an image, or one a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Protocol, Self, TypeAlias

import numpy as np
import torch
from torch import Tensor

Array: TypeAlias = np.ndarray | Tensor
"""Numbers on the host, or on the device of what decided them."""

Rows: TypeAlias = slice | np.ndarray
"""Which masks: a range, or int positions."""


class Mask(Protocol):
    """u masks with weights in [0, 1]; 0 shows the own image, 1 the partner."""

    def __len__(self) -> int:
        """Return u."""
        ...

    def __getitem__(self, rows: Rows) -> Self:
        """Return some of the masks."""
        ...

    def area(self) -> Array:
        """Return each mask's mean weight, (u,) float32: the share that the partner shows."""
        ...

    def dense(self, device: torch.device) -> Tensor:
        """Return the weights per pixel, (u, 1, h, w), or (u, 1, 1, 1) where they are constant."""
        ...

    def only(self, chosen: np.ndarray) -> Self:
        """Return the masks where ``chosen``, (u,) bool, and masks of zeros elsewhere."""
        ...


class PerDraw:
    """Base of a dataclass of u things, one for each draw.

    What it holds in arrays, or in others of this kind, has u rows, the first field in any case; all
    else is common to all draws.
    """

    __slots__ = ()
    __match_args__: ClassVar[tuple[str, ...]]

    def __len__(self) -> int:
        """Return u."""
        rows: Array = getattr(self, self.__match_args__[0])
        return len(rows)

    def __getitem__(self, rows: Rows) -> Self:
        """Return some of them."""
        found = {name: getattr(self, name) for name in self.__match_args__}
        kinds = np.ndarray, Tensor, PerDraw
        return type(self)(**{n: v[rows] if isinstance(v, kinds) else v for n, v in found.items()})


@dataclass(frozen=True, slots=True)
class Constant(PerDraw):
    """One weight for all pixels of an image."""

    weight: Array
    """(u,) float32 in [0, 1]."""

    def area(self) -> Array:
        """Return the weights."""
        return self.weight

    def dense(self, device: torch.device) -> Tensor:
        """Return (u, 1, 1, 1) float32."""
        return as_tensor(self.weight.reshape(-1, 1, 1, 1), device)

    def only(self, chosen: np.ndarray) -> Constant:
        """Put a weight of 0 elsewhere."""
        return Constant(self.weight * like(chosen, self.weight))


@dataclass(frozen=True, slots=True)
class Boxes(PerDraw):
    """Weight 1 inside one box an image; what is outside the image is cut off when it is made."""

    first: Array
    """(u, 2) int: topmost row and leftmost column of the box."""
    end: Array
    """(u, 2) int: the row below the box and the column right of it; not before ``first``."""
    size: tuple[int, int]
    """(h, w) of the images."""

    def __post_init__(self) -> None:
        first, end = self.first, self.end
        if isinstance(first, np.ndarray):  # three times as fast as numpy's clip
            first = np.minimum(np.maximum(first, 0), self.size)
            end = np.maximum(np.minimum(end, self.size), first)
        else:
            most = torch.tensor(self.size, device=first.device)
            first = torch.minimum(first.clamp(min=0), most)
            end = torch.maximum(torch.minimum(torch.as_tensor(end), most), first)
        object.__setattr__(self, "first", first)
        object.__setattr__(self, "end", end)

    @property
    def on_host(self) -> bool:
        """Whether the numbers are on the host."""
        return isinstance(self.first, np.ndarray)

    def area(self) -> Array:
        """Return height times width over that of the image; float32 holds both exactly."""
        sides = as_float(self.end - self.first)
        return sides[:, 0] * sides[:, 1] / (self.size[0] * self.size[1])

    def dense(self, device: torch.device) -> Tensor:
        """Return (u, 1, h, w) float32 of zeros and ones."""
        height, width = self.size
        before = _before(max(self.size))
        if isinstance(self.first, np.ndarray):
            inside: Array = before.take(self.end, 0) - before.take(self.first, 0)
        else:
            table = torch.from_numpy(before).to(self.first.device)
            inside = table[self.end] - table[self.first]
        rows = as_tensor(inside[:, :1, :height, None], device)
        return rows * as_tensor(inside[:, 1:, None, :width], device)

    def only(self, chosen: np.ndarray) -> Boxes:
        """Leave empty boxes elsewhere."""
        kept = like(chosen, self.end)[:, None]
        return Boxes(self.first * kept, self.end * kept, self.size)


@dataclass(frozen=True, slots=True)
class Cells(PerDraw):
    """A coarse grid of weights: each pixel has that of the cell it lies in."""

    weight: Array
    """(u, rows, columns) float32 in [0, 1]."""
    size: tuple[int, int]
    """(h, w) of the images; need not be multiples of the grid."""

    def area(self) -> Array:
        """Return the mean over the cells, each counted with its pixels."""
        _, rows, columns = self.weight.shape
        pixels = like(_pixels_of_cells(self.size, rows, columns), self.weight)
        # In pixels, which floats hold exactly: nothing and all must come out as 0 and 1.
        height, width = self.size
        area = self.weight.reshape(-1, rows * columns) @ pixels / (height * width)
        return np.minimum(area, 1) if isinstance(area, np.ndarray) else area.clamp(max=1)

    def dense(self, device: torch.device) -> Tensor:
        """Return (u, 1, h, w) float32."""
        _, rows, columns = self.weight.shape
        high, wide = _pixels(self.size[0], rows), _pixels(self.size[1], columns)
        if isinstance(self.weight, np.ndarray):
            # numpy's repeat writes a mask in the time of one copy of it; torch has none as fast.
            return as_tensor(self.weight.repeat(wide, 2).repeat(high, 1)[:, None], device)
        row, column = (
            torch.arange(len(pixels)).repeat_interleave(torch.from_numpy(pixels)).to(device)
            for pixels in (high, wide)
        )
        return self.weight.to(device).index_select(2, column).index_select(1, row)[:, None]

    def only(self, chosen: np.ndarray) -> Cells:
        """Put weights of 0 elsewhere."""
        return Cells(self.weight * like(chosen, self.weight)[:, None, None], self.size)


@dataclass(frozen=True, slots=True)
class Outer(PerDraw):
    """Weights that are a product: of one for the row and one for the column of a pixel."""

    rows: Array
    """(u, h) float32 in [0, 1]."""
    columns: Array
    """(u, w) of the same kind."""

    def area(self) -> Array:
        """Return the product of the means of rows and columns."""
        return self.rows.mean(1) * self.columns.mean(1)

    def dense(self, device: torch.device) -> Tensor:
        """Return (u, 1, h, w) float32."""
        rows, columns = as_tensor(self.rows, device), as_tensor(self.columns, device)
        return rows[:, None, :, None] * columns[:, None, None, :]

    def only(self, chosen: np.ndarray) -> Outer:
        """Put weights of 0 elsewhere."""
        return Outer(self.rows * like(chosen, self.rows)[:, None], self.columns)


@dataclass(frozen=True, slots=True)
class Dense(PerDraw):
    """Weights that differ from pixel to pixel."""

    weight: Array
    """(u, 1, h, w) in [0, 1], or of size 1 where they do not differ."""

    def area(self) -> Array:
        """Return the mean over the pixels."""
        return as_float(self.weight).mean((1, 2, 3))

    def dense(self, device: torch.device) -> Tensor:
        """Return the weights in float32."""
        return as_tensor(as_float(self.weight), device)

    def only(self, chosen: np.ndarray) -> Dense:
        """Put weights of 0 elsewhere."""
        return Dense(self.weight * like(chosen, self.weight)[:, None, None, None])


def as_mask(weight: Mask | Array) -> Mask:
    """Return a mask function's result as a mask: plain arrays are dense ones."""
    return Dense(weight) if isinstance(weight, np.ndarray | Tensor) else weight


def as_tensor(values: Array, device: torch.device) -> Tensor:
    """Return ``values`` on a device; on the CPU without a copy."""
    tensor = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
    if device.type == "cpu":
        return tensor if tensor.is_cpu else tensor.cpu()  # which takes its time to do nothing
    return tensor.to(device, non_blocking=True)


def as_float(values: Array) -> Array:
    """Return ``values`` in float32."""
    return values.astype(np.float32) if isinstance(values, np.ndarray) else values.float()


def like(host: np.ndarray, other: Array) -> Array:
    """Return a host array as what can be computed with ``other``: itself, or a tensor there."""
    return host if isinstance(other, np.ndarray) else as_tensor(host, other.device)


@lru_cache
def _before(side: int) -> np.ndarray:
    """Return for each edge which places lie before it, (side + 1, side) float32.

    Looked up, a box's rows cost less than compared, and floats need not be converted from bools.
    """
    return (np.arange(side) < np.arange(side + 1)[:, None]).astype(np.float32)


@lru_cache
def _pixels(side: int, cells: int) -> np.ndarray:
    """Return how many of ``side`` pixels lie in each cell, (cells,) int: y in ``y * g // side``."""
    edges = -(-np.arange(cells + 1) * side // cells)
    return edges[1:] - edges[:-1]


def pixels_of_cells(size: tuple[int, int], rows: int, columns: int) -> np.ndarray:
    """Return how many pixels lie in each cell of a grid, (rows * columns,) int."""
    return np.outer(_pixels(size[0], rows), _pixels(size[1], columns)).ravel()


@lru_cache
def _pixels_of_cells(size: tuple[int, int], rows: int, columns: int) -> np.ndarray:
    return pixels_of_cells(size, rows, columns).astype(np.float32)
