"""What tests of single mixes share: a draw of a method alone, how much of the partner it shows,
and a batch that it mixed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from automix.core.seeding import generator
from automix.masks.recipes import Recipe, as_recipe
from automix.masks.shapes import Mask
from automix.mixes import MIXES, MixInputs
from automix.mixing.actions import MixAction
from automix.mixing.batch import Mixed, MixSettings, mix_batch

SIZES = [(32, 32), (24, 40), (7, 5), (4, 4), (1, 9)]


CPU = torch.device("cpu")

SHARES = (0.1, 0.25, 0.5)
"""Wanted ones, at which the realised share is measured."""


def random_maps(u: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Saliency maps (u, h, w) that sum to 1, some pixels far above the rest."""
    maps = torch.from_numpy(generator(seed, "maps").random((u, *size), dtype=np.float32)) ** 6
    return maps / maps.sum((1, 2), keepdim=True)


def recipe_of(
    method: str, share, size, *, own=None, partner=None, ratio=None, seed=0, **settings
) -> Recipe:
    """Return what a method makes of wanted shares (u,); the partners' maps are the own ones."""
    share = np.asarray(share, np.float32)
    ratio = float(share.mean()) if ratio is None else ratio
    partner = own if partner is None else partner
    draw = MixInputs(share, size, ratio, generator(seed, "mask"), own, partner)
    return as_recipe(MIXES[method](draw, **settings))


def drawn(method: str, share, size, *, guided=False, seed=0, maps=None, **how) -> Mask:
    """Return the masks that a method draws for shares (u,), by random maps or given ones."""
    own, partner = None, None
    if guided:
        own, partner = maps or [random_maps(len(share), size, seed + i) for i in (1, 2)]
    return recipe_of(method, share, size, own=own, partner=partner, seed=seed, **how).mask


def pixels(mask: Mask) -> list:
    """Return a mask as lists (u, h, w)."""
    return mask.dense(CPU)[:, 0].tolist()


def realised(method: str, share: float, size, **how) -> np.ndarray:
    """Return the share that each of 3000 draws shows, (3000,) float64."""
    area = drawn(method, np.full(3000, share), size, **how).area()
    return np.asarray(area, np.float64)


def noise(seed: int, *shape: int) -> Tensor:
    """Random normal values."""
    return torch.from_numpy(generator(seed, "images").standard_normal(shape, dtype=np.float32))


def mixed(action: str, images: Tensor, *, options=(), **more) -> Mixed:
    """Mix a batch whose image i has the class i, by an action as it is written."""
    given = {
        "num_classes": len(images),
        "rng": generator(0, "mix"),
        "settings": MixSettings(options=options),
    }
    return mix_batch(images, torch.arange(len(images)), MixAction.parse(action), **given | more)


def boxes(mask) -> list[tuple[int, int, int, int]]:
    """Return (top, left, bottom, right) of each box."""
    return [tuple(row) for row in np.hstack([mask.first, mask.end]).tolist()]
