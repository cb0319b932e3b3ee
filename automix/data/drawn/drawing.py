"""What drawn image sets share: how they are drawn piece by piece, noise, colours, places."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy import fft

from automix.core.errors import ConfigError
from automix.core.seeding import generator
from automix.data import DataSource
from automix.data.image_set import ImageSet, InMemory

SEED = 0
"""Every process draws the same images."""

SIDE, SIDES = 24, (12, 64)
"""Pixels along an image: what 0 stands for, and the least and the most."""

PIECE = 500
"""Images that are drawn at a time: more would not fit into the processor's cache."""

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""How bright red, green and blue look (ITU-R BT.601)."""

Draw = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]
"""Labels (n,), side and random numbers -> images (n, 3, side, side) float32, cut off later."""


def drawn_set(source: DataSource, class_names: Sequence[str], each: int, draw: Draw) -> ImageSet:
    """Draw ``each`` images of every class, in random order, from ``SEED`` and the set's name.

    Raises:
        ConfigError: If ``image_size`` is none that such sets are drawn at.
    """
    side = source.image_size or SIDE
    if not SIDES[0] <= side <= SIDES[1]:
        raise ConfigError(
            f"task.image_size is {side}, wanted {SIDES[0]} to {SIDES[1]} for {source.dataset}",
            f"0 takes {SIDE}",
        )
    rng = generator(SEED, source.dataset)
    labels = rng.permutation(np.repeat(np.arange(len(class_names)), each))
    pixels = np.empty((len(labels), 3, side, side), np.uint8)
    for start in range(0, len(labels), PIECE):
        piece = slice(start, start + PIECE)
        pixels[piece] = np.clip(draw(labels[piece], side, rng), 0, 1) * 255 + 0.5
    return ImageSet(
        name=source.dataset,
        pixels=InMemory(torch.from_numpy(pixels)),
        labels=labels,
        class_names=tuple(class_names),
        shape=(3, side, side),
        memory_limit_gb=source.memory_limit_gb,
    )


def uniform(
    rng: np.random.Generator, low: float, high: float, shape: tuple[int, ...]
) -> np.ndarray:
    """Draw float32 numbers from [low, high)."""
    return np.float32(low) + np.float32(high - low) * rng.random(shape, dtype=np.float32)


def grainy(images: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Return the images with independent noise on every value."""
    return images + np.float32(deviation) * rng.standard_normal(images.shape, dtype=np.float32)


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


def centres(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return y and x of the pixel centres, each (side, side) float32 in [-1, 1]."""
    line = ((np.arange(side) + 0.5) / side * 2 - 1).astype(np.float32)
    return np.broadcast_to(line[:, None], (side, side)), np.broadcast_to(line, (side, side))


def two_colours(
    rng: np.random.Generator, count: int, contrast: float, tint: float, swapped: float
) -> tuple[np.ndarray, np.ndarray]:
    """Draw two colours an image, each (count, 3, 1, 1).

    Args:
        rng: Draws them.
        count: How many images.
        contrast: Least difference of brightness, below 1.
        tint: How far red, green and blue are from their common brightness: 0 is grey.
        swapped: Share of images in which the second is the brighter one.
    """
    gap = uniform(rng, contrast, 1, (count,))
    dark = uniform(rng, 0, 1, (count,)) * (1 - gap)
    levels = np.where(rng.random(count) < swapped, [dark, dark + gap], [dark + gap, dark])
    hues = uniform(rng, -tint, tint, (2, count, 3))
    hues -= hues @ LUMA[:, None]  # the brightness stays
    first, second = np.clip(levels[:, :, None] + hues, 0, 1)[..., None, None]
    return first, second
