"""Tasks and settings so small that a training takes a moment."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer

from automix.data.image_set import ImageSet, InMemory
from automix.data.tasks import FamilySettings, Task, TaskFamily, TaskSpec
from automix.policy.policy import PolicyForm
from automix.training.settings import TrainerSettings

BATCH_SIZE = 16


@lru_cache(maxsize=1)
def digits_task() -> Task:
    """60 training and 30 validation digits: three batches of 16 and one of 12."""
    family = TaskFamily(FamilySettings(dataset="digits", train_sizes=(60,), val_size=30))
    return family.task(TaskSpec(train_size=60, label_noise=0.1, seed=3))


def fake_task(
    shape: tuple[int, int, int], *, train: int = 12, val: int = 6, test: int = 6, classes: int = 3
) -> Task:
    """Noise images, for nets that want a shape of their own."""
    n = train + val + test
    pixels = torch.from_numpy(np.random.default_rng(0).random((n, *shape), dtype=np.float32))
    labels = np.arange(n) % classes
    index = np.arange(n)
    return Task(
        spec=TaskSpec(train_size=train, label_noise=0.0, seed=0),
        images=ImageSet("noise", InMemory(pixels), labels, tuple("abcdefghij"[:classes]), shape),
        train_index=index[:train],
        train_labels=labels[:train],
        val_index=index[train : train + val],
        test_index=index[train + val :],
        mean=torch.full((shape[0], 1, 1), 0.5),
        std=torch.full((shape[0], 1, 1), 0.29),
    )


def trainer_settings(**changes: Any) -> TrainerSettings:
    """Settings of a short training; 4 epochs, the first of them warm-up."""
    values: dict[str, Any] = {
        "model": "small_cnn_w8",
        "epochs": 4,
        "batch_size": BATCH_SIZE,
        "warmup_epochs": 1,
        "probe_size": 20,
    }
    return TrainerSettings(**values | changes)


@register_model
def dropout_cnn_for_tests(pretrained: bool = False, **kwargs: Any) -> torch.nn.Module:
    """A net that draws while it trains: its own batch norm and dropout, no grouped twin."""
    return torch.nn.Sequential(
        torch.nn.Conv2d(kwargs["in_chans"], 4, 3, stride=2),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.5),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(4, kwargs["num_classes"]),
    )


@register_model
def dropout_vit_for_tests(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """A transformer that draws while it trains: dropout of attention and tokens, whole paths."""
    return VisionTransformer(
        img_size=kwargs["img_size"],
        patch_size=2,
        in_chans=kwargs["in_chans"],
        num_classes=kwargs["num_classes"],
        embed_dim=16,
        depth=2,
        num_heads=2,
        proj_drop_rate=0.2,
        attn_drop_rate=0.2,
        drop_path_rate=0.2,
    )


ONE_MIX = PolicyForm(
    observations=["progress"],
    observation_sizes=[1],
    methods=["none", "mixup"],
    ratios=[0.5],
    saliency=["off"],
    space="flat",
    choices=["none", "mixup@0.5"],
)
"""Of a policy that sees how far a training is, and chooses between not mixing and one mix."""
