"""Who is mixed with whom: the partner index of each image of a batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from automix.registry import Registry

Pairing = Callable[[int, np.random.Generator], np.ndarray]

PAIRINGS: Registry[Pairing] = Registry("pairing")


@PAIRINGS.register("derange")
def derange(b: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a random single cycle: no image meets itself, unless it is alone."""
    cycle = rng.permutation(b)
    partner = np.empty(b, dtype=np.int64)
    partner[cycle] = np.roll(cycle, 1)
    return partner


@PAIRINGS.register("permute")
def permute(b: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a random permutation, as the papers do; on average one image meets itself."""
    return rng.permutation(b)


@PAIRINGS.register("flip")
def flip(b: int, rng: np.random.Generator) -> np.ndarray:
    """Pair the batch with itself backwards (timm, TransMix); the middle of an odd one is alone."""
    return np.arange(b)[::-1].copy()


@PAIRINGS.register("roll")
def roll(b: int, rng: np.random.Generator) -> np.ndarray:
    """Pair each image with the one before it (torchvision)."""
    return np.roll(np.arange(b), 1)
