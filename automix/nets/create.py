"""Any timm net by its name, those of ``automix.nets.zoo`` among them, built from a seed."""

from __future__ import annotations

from typing import Any

import timm
import torch.nn as nn

import automix.nets.zoo  # noqa: F401 (registers them with timm)
from automix.core.errors import ConfigError, did_you_mean
from automix.core.seeding import borrowed_global_rng

SMALL_NETS = ("small_cnn_w8", "small_cnn_w16", "small_cnn_w32")
"""For images of a few pixels."""

SMALL_TRANSFORMERS = ("vit_digits", "vit_mini_patch4_32", "swin_mini_patch2_32", "pvt_v2_mini")
"""For 8 pixels, and for 32."""

PROTOCOL_NETS = (
    "preact_resnet18",
    "preact_resnet18_s2",
    "wide_resnet16_8",
    "wide_resnet28_10",
    "resnext29_4x24d",
    "deit_small_patch4_32",
)
"""For 32 and 64 pixels, as the published mixing figures were measured with."""


def create_classifier(
    name: str, *, num_classes: int, shape: tuple[int, int, int], seed: int
) -> nn.Module:
    """Build a fresh timm net; equal seeds give equal weights.

    Args:
        name: Any name that ``timm.list_models()`` knows.
        num_classes: Logits.
        shape: (channels, height, width) of the images; nets with a fixed size are built for it.
        seed: Draws the initial weights.

    Raises:
        ConfigError: If timm has no such net, or it cannot take images of that shape.
    """
    if not timm.is_model(name):
        raise ConfigError(
            f"model {name!r} is not a timm model.{did_you_mean(name, timm.list_models())}",
            f"small images: {', '.join(SMALL_NETS)}, {SMALL_TRANSFORMERS[0]}; all: "
            "python run.py list models",
        )
    options: dict[str, Any] = {"num_classes": num_classes, "in_chans": shape[0]}
    with borrowed_global_rng(seed):
        try:
            return timm.create_model(name, img_size=shape[1:], **options)
        except TypeError:  # nets for any size have no such argument
            return timm.create_model(name, **options)
