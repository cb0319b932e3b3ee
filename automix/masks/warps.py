"""Images that are moved before they are blended: one box of an image fitted into another box.

A partner shrunk into a box, a crop of it resized into another, an image shifted to the side: each
is described by two boxes, and resampled along rows and columns separately.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from automix.masks.shapes import Boxes, PerDraw, as_tensor


@dataclass(frozen=True, slots=True)
class Fitted(PerDraw):
    """The box ``source`` of an image, resized into the box ``target`` of the same image.

    Outside ``target`` are the nearest pixels of its border, which a mask should hide.
    """

    source: Boxes
    """u boxes on the host; not empty."""
    target: Boxes
    """u boxes on the host; where one is empty, nothing is left to see."""
    smooth: bool = False
    """Whether pixels are interpolated linearly, border to border, or the nearest is taken."""
    moves_own: bool = False
    """Whether the own image is moved, and not its partner."""

    def __call__(self, own: Tensor, partner: Tensor) -> Tensor:
        """Return the resampled images, (u, c, h, w)."""
        images = own if self.moves_own else partner
        return self._along(self._along(images, 0), 1)

    def maps(self, own: Tensor, partner: Tensor) -> Tensor:
        """Return each map's mass in ``source``, (u, h, w), spread over ``target`` as it lies."""
        maps = own if self.moves_own else partner
        rows, columns = (as_tensor(self._parts(axis), maps.device).to(maps) for axis in (0, 1))
        return rows @ maps @ columns.mT

    def _edges(self, axis: int) -> tuple[np.ndarray, ...]:
        """Return first and number of pixels of source and target along a side, (u, 1) int each."""
        edges = []
        for box in (self.source, self.target):
            first, end = (np.asarray(edge)[:, axis, None] for edge in (box.first, box.end))
            edges += [first, end - first]
        return tuple(edges)

    def _along(self, images: Tensor, axis: int) -> Tensor:
        """Resample rows (axis 0) or columns (1)."""
        a, n, t, k = self._edges(axis)
        step = np.clip(np.arange(images.shape[2 + axis]) - t, 0, np.maximum(k - 1, 0))
        if not self.smooth:
            return _taken(images, a + step * n // np.maximum(k, 1), axis)
        at = step * (n - 1) / np.maximum(k - 1, 1)
        low = np.minimum(at.astype(np.int64), np.maximum(n - 2, 0))
        part = _laid_out(as_tensor((at - low).astype(np.float32), images.device), axis)
        high = np.minimum(low + 1, n - 1)
        return torch.lerp(
            _taken(images, a + low, axis), _taken(images, a + high, axis), part.to(images)
        )

    def _parts(self, axis: int) -> np.ndarray:
        """Return which part of each source line falls into each target line, (u, side, side)."""
        a, n, t, k = self._edges(axis)
        side = self.source.size[axis]
        edges = t + np.clip(np.arange(side + 1) - a, 0, n) * (k / n)
        lines = np.arange(side)[:, None]
        shared = np.minimum(edges[:, None, 1:], lines + 1) - np.maximum(edges[:, None, :-1], lines)
        return np.maximum(shared, 0) * (n / np.maximum(k, 1))[:, :, None]


def _taken(images: Tensor, index: np.ndarray, axis: int) -> Tensor:
    """Return each image with the rows (axis 0) or columns (1) that its index (u, side) names."""
    return images.take_along_dim(_laid_out(as_tensor(index, images.device), axis), 2 + axis)


def _laid_out(values: Tensor, axis: int) -> Tensor:
    """Return values for each row or column, (u, side), so that they go with images."""
    return values[:, None, :, None] if axis == 0 else values[:, None, None, :]
