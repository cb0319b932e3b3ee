"""Pairing: the partner index of each image of a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from automix.core.registry import Info, Registry

Pairing = Callable[[int, np.random.Generator], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class PairingInfo(Info):
    """What a pairing states about itself."""

    fixed: bool = False
    """It draws nothing."""
    neighbours: bool = False
    """Each image meets the one before it, so that partners can be read where they are and need not
    be gathered."""


PAIRINGS: Registry[Pairing, PairingInfo] = Registry("pairing", PairingInfo)


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


@PAIRINGS.register("flip", PairingInfo(fixed=True))
def flip(b: int, rng: np.random.Generator) -> np.ndarray:
    """Pair the batch with itself backwards (timm, TransMix); the middle of an odd one is alone."""
    return np.arange(b)[::-1].copy()


@PAIRINGS.register("roll", PairingInfo(fixed=True, neighbours=True))
def roll(b: int, rng: np.random.Generator) -> np.ndarray:
    """Pair each image with the one before it (torchvision): in a shuffled batch, a random cycle."""
    partner = np.arange(-1, b - 1)
    partner[:1] = b - 1
    return partner


@dataclass(frozen=True, slots=True)
class Pairs:
    """The partners of the images of one batch, or of several consecutive ones."""

    partner: np.ndarray
    """(n,) int64: position of each image's partner."""
    batch_size: int
    """Of each batch; the last one may be smaller."""
    neighbours: bool
    """Whether each image meets the one before it, and the first of a batch its last."""

    @property
    def batches(self) -> int:
        """How many batches there are."""
        return -(-len(self.partner) // self.batch_size)

    @property
    def batch(self) -> np.ndarray:
        """(n,) int64: the batch that each image is in."""
        return np.arange(len(self.partner)) // self.batch_size

    def each(self, values: np.ndarray) -> np.ndarray:
        """Return values (n,), one for each image, of those or of one for each batch."""
        if len(values) == len(self.partner):
            return values
        return values.repeat(self.batch_size)[: len(self.partner)]


def pair_batches(n: int, batch_size: int, pairing: str, rng: np.random.Generator) -> Pairs:
    """Pair within each of the consecutive batches of ``n`` images."""
    entry = PAIRINGS.entry(pairing)
    if entry.info.fixed:
        partner = _paired_alike(n, batch_size, entry.value).copy()
    else:
        partner = _paired(n, batch_size, entry.value, rng)
    return Pairs(partner, batch_size, entry.info.neighbours)


@lru_cache(maxsize=16)
def _paired_alike(n: int, batch_size: int, pair: Pairing) -> np.ndarray:
    """Remember the partners of a pairing that draws nothing."""
    return _paired(n, batch_size, pair, np.random.default_rng(0))


def _paired(n: int, batch_size: int, pair: Pairing, rng: np.random.Generator) -> np.ndarray:
    """Return each image's partner, (n,) int64."""
    if n <= batch_size:
        return pair(n, rng)
    starts = np.arange(0, n, batch_size)
    sizes = np.minimum(n - starts, batch_size).tolist()
    found = np.concatenate([pair(size, rng) for size in sizes])
    return found + np.repeat(starts, sizes)
