"""Tasks of noise images, for cost alone: no figure here depends on what the pixels show."""

from __future__ import annotations

import numpy as np
import torch

from automix.data.image_set import ImageSet, InMemory
from automix.data.tasks import Task, TaskSpec


def noise_task(px: int, channels: int = 3, train: int = 512, val: int = 256, seed: int = 0) -> Task:
    """Return a task of ten classes whose images are noise.

    Args:
        px: Side of the images.
        channels: Of the images.
        train: Training images.
        val: Validation images.
        seed: Tasks of different seeds share nothing.
    """
    rng, n = np.random.default_rng(seed), train + val
    pixels = torch.from_numpy(rng.random((n, channels, px, px), dtype=np.float32))
    labels, index = np.arange(n) % 10, np.arange(n)
    return Task(
        spec=TaskSpec(train_size=train, label_noise=0.0, seed=seed),
        images=ImageSet("noise", InMemory(pixels), labels, tuple("abcdefghij"), (channels, px, px)),
        train_index=index[:train],
        train_labels=labels[:train],
        val_index=index[train:],
        test_index=index[:0],
        mean=torch.full((channels, 1, 1), 0.5),
        std=torch.full((channels, 1, 1), 0.29),
    )
