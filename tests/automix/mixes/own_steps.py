"""What tests of methods with steps of their own share: a step, a tiny transformer, trainings."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from automix.core.seeding import generator
from automix.masks.method_steps import Step, StepLoss
from automix.masks.pairing import pair_batches
from automix.mixes import MIXES
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
