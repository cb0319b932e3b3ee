"""Where a box or bump goes: sides of a wanted share, a place inside the image, a map's peak."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from automix.masks.shapes import Boxes


def sides_of(share: np.ndarray, height: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the sides of boxes that cover a share as nearly as their height allows.

    Args:
        share: (u,) float32 in [0, 1]: wanted part of the image.
        height: (u,) float32: wanted height in pixels. It is rounded, and made larger where the
            image is not wide enough; the width is what the share then needs, rounded.
        size: (h, w) of the images.

    Returns:
        (u, 2) int64: rows and columns. The columns may be 0; all of the image for a share of 1.
    """
    tall, wide = size
    least = np.maximum(np.ceil(share * np.float32(tall)), 1)
    rows = np.clip(np.rint(height), least, tall)
    columns = np.minimum(np.rint(share * np.float32(tall * wide) / rows), wide)
    return np.stack([rows, columns], 1).astype(np.int64)


def placed_inside(sides: np.ndarray, size: tuple[int, int], rng: np.random.Generator) -> Boxes:
    """Return boxes of these sides, (u, 2) int, uniformly somewhere inside the image."""
    room = np.array(size) - sides + 1
    first = (rng.random(sides.shape) * room).astype(np.int64)
    return Boxes(first, first + sides, size)


def peak_of(maps: Tensor) -> Tensor:
    """Return row and column of the most salient pixel of each map (u, h, w): (u, 2) int64."""
    peak, width = maps.flatten(1).argmax(1), maps.shape[2]
    return torch.stack([peak // width, peak % width], 1)
