"""Nets whose last feature map is known, or laid out in every way that timm knows."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn as nn
from timm.models import register_model
from timm.models.deit import VisionTransformerDistilled
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer

from automix.core.seeding import borrowed_global_rng, generator
from automix.nets.zoo.pooled import PooledNet
from automix.saliency import SALIENCY

CLASSES = 3
SIZE = (8, 12)


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(generator(seed, "noise").normal(size=shape).astype("float32"))


def pooled(size: int = 2) -> PooledNet:
    """Two channels to five, then blocks of pixels: the map of a 5 x 7 image has 3 x 4 places."""
    with borrowed_global_rng(0):
        return PooledNet([nn.Conv2d(2, 5, 1), nn.AvgPool2d(size, ceil_mode=True)], 5, CLASSES)


def models_for(name: str) -> list[str]:
    """Nets of 8 pixels that a provider can ask: one as they are trained, and one that draws."""
    if "attention" in SALIENCY.info(name).required(guided=False):
        return ["vit_digits", "dropping_vit_for_tests"]
    return ["small_cnn_w8", "dropping_cnn_for_tests"]


def vit(**changes: Any) -> VisionTransformer:
    """Two blocks for images of any size; what it looks at differs from place to place."""
    form = {"patch_size": 2, "in_chans": 1, "num_classes": CLASSES, "embed_dim": 8, "depth": 2}
    free = {"dynamic_img_size": True, "dynamic_img_pad": True, "img_size": 8, "num_heads": 2}
    with borrowed_global_rng(0):
        net = VisionTransformer(**form | free | changes)
        for weight in net.parameters():
            nn.init.normal_(weight, std=0.6)
    return net


def token_nets() -> dict[str, nn.Module]:
    """Small transformers for images of 1 x 8 x 12, in patches of 4: a grid of 2 x 3."""
    form: dict[str, Any] = {"patch_size": 4, "in_chans": 1, "num_classes": CLASSES}
    vit = {**form, "img_size": SIZE, "embed_dim": 8, "depth": 1, "num_heads": 2}
    swin = {**form, "embed_dim": 8, "depths": (1,), "num_heads": (2,), "window_size": 1}
    with borrowed_global_rng(0):
        nets = {
            "class token": VisionTransformer(**vit),
            "two class tokens": VisionTransformerDistilled(**vit),
            "mean of tokens": VisionTransformer(**vit, global_pool="avg"),
            "no class token": VisionTransformer(**vit, global_pool="avg", class_token=False),
            "channels last": SwinTransformer(**swin, img_size=SIZE),
        }
        for net in nets.values():
            for weight in net.parameters():  # timm's heads begin with zeros
                nn.init.normal_(weight, std=0.3)
    return nets


class Dropping(PooledNet):
    """Draws while it trains, in its trunk and in its head; no grouped twin."""

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        return self.fc(
            nn.functional.dropout(self.global_pool(features).flatten(1), 0.5, self.training)
        )


@register_model
def dropping_cnn_for_tests(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """A looped net with a feature map, batch norm and dropout."""
    layers = [
        nn.Conv2d(kwargs["in_chans"], 6, 3, stride=2),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Dropout(0.3),
    ]
    return Dropping(layers, 6, kwargs["num_classes"])


@register_model
def dropping_vit_for_tests(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """A transformer with batch norm, which drops attention and whole blocks; for any size."""
    named = {name: kwargs[name] for name in ("in_chans", "num_classes")}
    net = vit(attn_drop_rate=0.3, drop_path_rate=0.2, **named)
    net.patch_embed.proj = nn.Sequential(net.patch_embed.proj, nn.BatchNorm2d(8))
    return net
