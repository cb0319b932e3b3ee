"""What tests of single mixes share: a draw of a method alone, and a batch that it mixed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from automix.core.seeding import generator
from automix.masks.recipes import Recipe, as_recipe
from automix.mixes import MIXES, MixInputs
from automix.mixing.actions import MixAction
from automix.mixing.batch import Mixed, MixSettings, mix_batch

SIZES = [(32, 32), (24, 40), (7, 5), (4, 4), (1, 9)]


def recipe_of(method: str, share, size, *, own: Tensor | None = None, seed=0, **settings) -> Recipe:
    """Return what a method makes of wanted shares (u,)."""
    share = np.asarray(share, np.float32)
    draw = MixInputs(share, size, float(share.mean()), generator(seed, "mask"), own, own)
    return as_recipe(MIXES[method](draw, **settings))


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
