"""A small convolutional net for images from 4 pixels up."""

from __future__ import annotations

from typing import Any

import torch.nn as nn
from timm.models import register_model

from automix.nets.zoo.pooled import PooledNet


class SmallCNN(PooledNet):
    """Three 3x3 convolutions with batch norm, two of them of stride 2: images from 4 pixels up.

    Args:
        width: Channels of the first layer; the next ones have 2 and 4 times as many.
        num_classes: Logits.
        in_chans: Channels of the images.
        **_: What timm passes to every net (cache_dir ...); none of it applies here.
    """

    stackable = True
    """Every layer keeps channels apart or has a grouped twin; see ``automix.nets.stacking``."""

    def __init__(self, width: int = 8, num_classes: int = 10, in_chans: int = 3, **_: Any) -> None:
        layers = [
            *_block(in_chans, width, stride=1),
            *_block(width, 2 * width, stride=2),
            *_block(2 * width, 4 * width, stride=2),
        ]
        super().__init__(layers, 4 * width, num_classes)


def _block(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


@register_model
def small_cnn_w8(pretrained: bool = False, **kwargs: Any) -> SmallCNN:
    """7 k weights: the digits net."""
    return SmallCNN(8, **kwargs)


@register_model
def small_cnn_w16(pretrained: bool = False, **kwargs: Any) -> SmallCNN:
    """25 k weights."""
    return SmallCNN(16, **kwargs)


@register_model
def small_cnn_w32(pretrained: bool = False, **kwargs: Any) -> SmallCNN:
    """95 k weights, for 32 pixels."""
    return SmallCNN(32, **kwargs)
