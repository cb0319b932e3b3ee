"""Digits of which each is a class of its own: what a net is shown tells how it was mixed.

No two images of a batch share a class, so the larger weight of a target is the larger of the two
shares. It depends on the draws alone, whatever images a batch holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from automix import MixAction, MixSchedule
from automix.policy.mixer import ScheduleMixer

COUNT, SIZE = 24, 6
"""Images, which are also the classes, and how many a batch has."""

SIDE = 32
"""Pixels: what a box that is clipped leaves depends on them."""

DIGITS = torch.from_numpy(load_digits().images[:COUNT] / 16).float()[:, None]
IMAGES = F.interpolate(DIGITS, size=SIDE)
LABELS = torch.arange(COUNT)

Shares = list[list[float]]
"""Of each epoch, the larger weights of its targets, smallest first."""


def mixer_of(*actions: str, epochs: int = 2, **given) -> ScheduleMixer:
    """Return a mixer that mixes nothing in the first half, by default."""
    plays = [MixAction.parse(action) for action in actions or ("none", "mixup@0.25")]
    return MixSchedule(plays).mixer(COUNT, epochs=epochs, **given)


def shares(targets: Iterable[Tensor]) -> list[float]:
    return sorted(round(weight, 5) for batch in targets for weight in batch.max(1).values.tolist())


def by_epoch(targets: Sequence[Tensor], epochs: int = 2) -> Shares:
    """Sort what was seen batch by batch into epochs."""
    each = len(targets) // epochs
    assert len(targets) == each * epochs
    return [shares(targets[at * each : (at + 1) * each]) for at in range(epochs)]


def wanted(mixer: ScheduleMixer, size: int = SIZE, epochs: int = 2, **workers) -> Shares:
    """Return what a net is to see, from a loader of one's own that the mixer collates for.

    Args:
        mixer: A fresh one.
        size: Of a batch.
        epochs: Of the training.
        workers: Of the loader.
    """
    data = TensorDataset(IMAGES, LABELS)
    loader = DataLoader(
        data,
        size,
        drop_last=True,
        collate_fn=mixer.collate,
        multiprocessing_context="fork" if workers.get("num_workers") else None,
        **workers,
    )
    found = []
    for epoch in range(epochs):
        mixer.set_epoch(epoch, epochs)
        found.append(shares(targets for _, targets in loader))
    return found
