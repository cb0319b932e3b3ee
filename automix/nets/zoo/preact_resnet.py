"""Pre-activation ResNet-18 for small images.

He et al. 2016, "Identity mappings in deep residual networks", arXiv:1603.05027, section 4, with the
widths and depths of ResNet-18. As in the code that the published mixing figures come from, nothing
normalises the sum of the last block, and the first convolution is 3x3 without pooling.
"""

from __future__ import annotations

from typing import Any

import torch.nn as nn
from timm.models import register_model
from torch import Tensor

from automix.nets.zoo.pooled import PooledNet

WIDTHS = (64, 128, 256, 512)
DEPTH = 2
"""Blocks of each width."""


class PreActBlock(nn.Module):
    """Norm, ReLU and 3x3 convolution, twice, beside a shortcut.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        stride: Of the first convolution and of the shortcut.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.activate = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(inplace=True))
        self.branch = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        )
        self.shortcut: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map (b, inputs, h, w) to (b, outputs, h / stride, w / stride)."""
        active = self.activate(features)
        own = features if self.shortcut is None else self.shortcut(active)
        return self.branch(active) + own


class PreActResNet18(PooledNet):
    """Four pairs of blocks, the later ones each at half the size, global pooling, one layer.

    Args:
        stride: Of the first convolution: 1 for 32 pixels, 2 for 64.
        num_classes: Logits.
        in_chans: Channels of the images.
        **_: What timm passes to every net (cache_dir ...); none of it applies here.
    """

    def __init__(
        self, stride: int = 1, num_classes: int = 100, in_chans: int = 3, **_: Any
    ) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(in_chans, WIDTHS[0], 3, stride=stride, padding=1, bias=False)
        ]
        before = WIDTHS[0]
        for width in WIDTHS:
            for number in range(DEPTH):
                step = 2 if number == 0 and width != WIDTHS[0] else 1
                layers.append(PreActBlock(before, width, step))
                before = width
        super().__init__(layers, WIDTHS[-1], num_classes)


@register_model
def preact_resnet18(pretrained: bool = False, **kwargs: Any) -> PreActResNet18:
    """11.2 M weights: CIFAR."""
    return PreActResNet18(1, **kwargs)


@register_model
def preact_resnet18_s2(pretrained: bool = False, **kwargs: Any) -> PreActResNet18:
    """11.2 M weights, first stride 2: Tiny-ImageNet at 64 pixels."""
    return PreActResNet18(2, **kwargs)
