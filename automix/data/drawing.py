"""What drawn image sets are made of: places, noise, colours, and the side that is asked for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy import fft
from torch import Tensor

from automix.core.errors import ConfigError
from automix.data import DataSource

SIDES = (12, 64)
"""The least and the largest side, in pixels, at which such sets are drawn."""

PIECE = 1000
"""Images that are drawn at a time."""

LUMA = np.array([0.299, 0.587, 0.114])
"""How bright red, green and blue look (ITU-R BT.601)."""


def side_of(source: DataSource, default: int) -> int:
    """Return the side in pixels that images are drawn at."""
    side = source.image_size or default
    if not SIDES[0] <= side <= SIDES[1]:
        raise ConfigError(
            f"task.image_size is {side}, wanted {SIDES[0]} to {SIDES[1]} for {source.dataset}",
            f"0 takes {default}",
        )
    return side


def pieces(count: int) -> Iterator[slice]:
    """Cut ``count`` images into pieces that are drawn one after the other."""
    for start in range(0, count, PIECE):
        yield slice(start, min(start + PIECE, count))


def centres(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (y, x) of the pixel centres, each (side, side) float32 in [-1, 1]."""
    line = ((np.arange(side) + 0.5) / side * 2 - 1).astype(np.float32)
    return np.meshgrid(line, line, indexing="ij")


def noise(rng: np.random.Generator, count: int, side: int, exponent: float) -> np.ndarray:
    """Return (count, side, side) fields of mean 0 and deviation 1 with a power-law spectrum.

    Args:
        rng: Draws them.
        count: How many.
        side: In pixels.
        exponent: Of the amplitude over the frequency: 0 is white, 1 looks like a natural scene, 2
            is smooth.
    """
    white = fft.rfft2(rng.standard_normal((count, side, side), dtype=np.float32))
    frequency = np.hypot(fft.fftfreq(side)[:, None], fft.rfftfreq(side)[None])
    frequency[0, 0] = np.inf  # no mean
    white *= (frequency**-exponent).astype(np.float32)
    field: np.ndarray = fft.irfft2(white, s=(side, side))
    return field / field.std((1, 2), keepdims=True)


def two_colours(
    rng: np.random.Generator, count: int, contrast: float, tint: float, swapped: float
) -> tuple[np.ndarray, np.ndarray]:
    """Draw two colours an image, each (count, 3) in [0, 1].

    Args:
        rng: Draws them.
        count: How many images.
        contrast: Least difference of brightness, below 1.
        tint: How far red, green and blue are from their common brightness: 0 is grey.
        swapped: Share of images in which the second is the brighter one.
    """
    gap = rng.uniform(contrast, 1, count)
    dark = rng.uniform(0, 1 - gap)
    levels = np.where(rng.random(count) < swapped, [dark, dark + gap], [dark + gap, dark])
    hues = rng.uniform(-tint, tint, (2, count, 3))
    hues -= hues @ LUMA[:, None]  # the brightness stays
    first, second = np.clip(levels[:, :, None] + hues, 0, 1).astype(np.float32)
    return first, second


def as_bytes(images: np.ndarray) -> Tensor:
    """Turn (n, c, h, w) floats, cut off at 0 and 1, into uint8."""
    return torch.from_numpy((np.clip(images, 0, 1) * 255 + 0.5).astype(np.uint8))
