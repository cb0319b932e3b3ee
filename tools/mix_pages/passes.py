"""What a training step of a method's own costs, as it reports it on a few digits."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from sklearn.datasets import load_digits

from automix.core.seeding import borrowed_global_rng, generator
from automix.mixes import MIXES
from automix.mixing.actions import MixAction
from automix.mixing.loss import keeps_state, loss_of, new_state
from automix.nets.create import create_classifier
from automix.training.requirements import nets_with

IMAGES, CLASSES, SHAPE = 8, 10, (1, 8, 8)


@lru_cache
def step_passes(method: str) -> tuple[int, int] | None:
    """Return forward and backward passes of a step beyond one of each, at a ratio of 0.5.

    Asked of the first step of a fresh net, the smallest of ours that will do; None if none does.
    """
    model = next(nets_with(set(MIXES.info(method).required(guided=False)), CLASSES, SHAPE), None)
    if model is None:
        return None
    digits, action = load_digits(), MixAction(method, 0.5)
    images = torch.from_numpy(digits.images[:IMAGES].astype(np.float32) / 16)[:, None]
    net, twin = (
        create_classifier(model, num_classes=CLASSES, shape=SHAPE, seed=0) for _ in range(2)
    )
    state = None
    if keeps_state(action):
        state = new_state(twin, method, classes=CLASSES, shape=SHAPE, steps=100, seed=0)
    with borrowed_global_rng(0):  # for the dropout of nets that have it
        told = loss_of(
            net.train(),
            images,
            torch.from_numpy(digits.target[:IMAGES]),
            action,
            num_classes=CLASSES,
            rng=generator(0, "passes"),
            state=state,
        )
    return told.passes
