"""ResNeXt-29 for small images.

Xie et al. 2017, arXiv:1611.05431, section 5.2: three stages of three bottlenecks with grouped
convolutions, in the 4x24d form that the published mixing figures were measured with.
"""

from __future__ import annotations

from typing import Any

import torch.nn as nn
from timm.models import register_model
from torch import Tensor

from automix.nets.zoo.pooled import PooledNet

STEM = 64
"""Channels of the first convolution."""

DEPTH = 3
"""Blocks of each stage; 29 layers in all."""

EXPANSION = 4
"""A block's output channels, in units of the stage's 64, 128 or 256."""


class Bottleneck(nn.Module):
    """1x1, grouped 3x3 and 1x1 convolution beside a shortcut; ReLU after the sum.

    Args:
        inputs: Channels in.
        width: Channels of the grouped convolution.
        outputs: Channels out.
        groups: Of the 3x3 convolution.
        stride: Of the 3x3 convolution and of the shortcut.
    """

    def __init__(self, inputs: int, width: int, outputs: int, groups: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride=stride, padding=1, groups=groups, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.activate = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Map (b, inputs, h, w) to (b, outputs, h / stride, w / stride)."""
        own = features if self.shortcut is None else self.shortcut(features)
        return self.activate(self.branch(features) + own)


class ResNeXt29(PooledNet):
    """Three stages of bottlenecks, the later two each at half the size, global pooling, one layer.

    Args:
        groups: Of every 3x3 convolution (cardinality).
        base_width: Channels of a group in the first stage; doubled by each stage.
        num_classes: Logits.
        in_chans: Channels of the images.
        **_: What timm passes to every net (cache_dir ...); none of it applies here.
    """

    def __init__(
        self, groups: int, base_width: int, num_classes: int = 100, in_chans: int = 3, **_: Any
    ) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(in_chans, STEM, 3, padding=1, bias=False),
            nn.BatchNorm2d(STEM),
            nn.ReLU(inplace=True),
        ]
        before = STEM
        for stage in range(3):
            width, outputs = groups * base_width * 2**stage, EXPANSION * STEM * 2**stage
            for number in range(DEPTH):
                stride = 2 if stage > 0 and number == 0 else 1
                layers.append(Bottleneck(before, width, outputs, groups, stride))
                before = outputs
        super().__init__(layers, before, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


@register_model
def resnext29_4x24d(pretrained: bool = False, **kwargs: Any) -> ResNeXt29:
    """4.9 M weights: ResNeXt-29, 4x24d."""
    return ResNeXt29(4, 24, **kwargs)
