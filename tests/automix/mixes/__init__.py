"""Each mix by itself: its slow twin, and how much of the partner it shows."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from automix.core.seeding import generator
from automix.masks.shapes import as_mask
from automix.mixes import MIXES, MixInputs

CPU = torch.device("cpu")

SHARES = (0.1, 0.25, 0.5)
"""Wanted ones, at which the realised share is measured."""


def random_maps(u: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Saliency maps (u, h, w) that sum to 1, some pixels far above the rest."""
    maps = torch.from_numpy(generator(seed, "maps").random((u, *size), dtype=np.float32)) ** 6
    return maps / maps.sum((1, 2), keepdim=True)


def drawn(method: str, share, size, *, guided=False, ratio=None, seed=0, maps=None, **settings):
    """Return the masks that a method draws for shares (u,)."""
    share = np.asarray(share, np.float32)
    own = partner = None
    if guided:
        own, partner = maps or [random_maps(len(share), size, seed + i) for i in (1, 2)]
    ratio = float(share.mean()) if ratio is None else ratio
    draw = MixInputs(share, size, ratio, generator(seed, "mask"), own, partner)
    return as_mask(MIXES[method](draw, **settings))


def pixels(mask) -> list:
    """Return a mask as lists (u, h, w)."""
    return mask.dense(CPU)[:, 0].tolist()


def realised(method: str, share: float, size, **how) -> np.ndarray:
    """Return the share that each of 3000 draws shows, (3000,) float64."""
    area = drawn(method, np.full(3000, share), size, **how).area()
    return np.asarray(area, np.float64)
