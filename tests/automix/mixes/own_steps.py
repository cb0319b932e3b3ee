"""What tests of methods with steps of their own share: a step, a tiny transformer, trainings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from automix.core.seeding import generator
from automix.masks.method_steps import Step, StepLoss
from automix.masks.pairing import pair_batches
from automix.mixes import MIXES
from automix.mixing.actions import MixAction
from automix.training.population import Population
from tests import tiny
from tests.automix.mixes.drawing import noise

CLASSES = 3
MODELS = ["small_cnn_w8", "vit_of_three_blocks"]


@register_model
def vit_of_three_blocks(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """A class token, three blocks, patches of 2 pixels, and draws while it trains."""
    return VisionTransformer(
        img_size=kwargs["img_size"],
        in_chans=kwargs["in_chans"],
        num_classes=kwargs["num_classes"],
        **{"patch_size": 2, "embed_dim": 12, "depth": 3, "num_heads": 2, "drop_path_rate": 0.2},
    )


def step_of(images: Tensor, share: Any, seed: int = 0) -> Step:
    """Image i has the class i, counted round, and meets one that a random cycle says."""
    b = len(images)
    share = np.broadcast_to(np.asarray(share, np.float32), b).copy()
    pairs = pair_batches(b, b, "derange", generator(5, "pairs"))
    targets = torch.eye(CLASSES)[torch.arange(b) % CLASSES]
    return Step(images, targets, share, float(share.mean()), pairs, generator(seed, "mix"))


def made(method: str, net: torch.nn.Module, step: Step, **settings: Any) -> StepLoss:
    """Let a method make a step."""
    return MIXES[method](net, step, **settings)


def images(b: int = 6, channels: int = 2, size: tuple[int, int] = (8, 12)) -> Tensor:
    """Noise."""
    return noise(3, b, channels, *size)


def population(members: int, model: str) -> Population:
    """Trainings on digits that have just begun, all alike."""
    trainings = Population([tiny.digits_task()] * members, tiny.trainer_settings(model=model))
    trainings.reset([3] * members)
    return trainings


def played(trainings: Population, *actions: str) -> Any:
    """Train for an epoch."""
    return trainings.run_epoch([MixAction.parse(action) for action in actions])


def check_training(method: str, model: str) -> None:
    """A method trains, beside another and alone alike, and goes on from a snapshot as it would."""
    trainings = population(2, model)
    first = played(trainings, f"{method}@0.5", "none")
    plain = played(population(1, model), "none")
    alone = played(population(1, model), f"{method}@0.5")
    assert first[0].val_loss == pytest.approx(alone[0].val_loss, rel=1e-4)
    assert first[1].val_loss == pytest.approx(plain[0].val_loss, rel=1e-4)
    assert first[0].train_loss != pytest.approx(first[1].train_loss, rel=1e-6)
    assert 0.3 < first[0].partner_share < 0.7
    for passes in ("forward_passes", "backward_passes"):
        assert getattr(first[0], passes) == getattr(first[1], passes)
    kept = trainings.state_dict()
    after = played(trainings, f"{method}@0.5", "cutmix@0.5")
    trainings.load_state_dict(kept)
    assert played(trainings, f"{method}@0.5", "cutmix@0.5") == after
