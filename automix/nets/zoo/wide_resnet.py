"""Wide residual networks for small images.

Zagoruyko and Komodakis 2016, arXiv:1605.07146, section 2, without dropout. As in the code that the
published mixing figures come from, convolutions have biases, the second one of a block has its
stride, and the shortcut takes what has not been activated.
"""

from __future__ import annotations

from typing import Any

import torch.nn as nn
from timm.models import register_model
from torch import Tensor

from automix.nets.zoo.pooled import PooledNet

STEM = 16
"""Channels of the first convolution."""


class WideBlock(nn.Module):
    """Norm, ReLU and 3x3 convolution, twice, beside a shortcut.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        stride: Of the second convolution and of the shortcut.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, stride=stride, padding=1),
        )
        self.shortcut: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride)

    def forward(self, features: Tensor) -> Tensor:
        """Map (b, inputs, h, w) to (b, outputs, h / stride, w / stride)."""
        own = features if self.shortcut is None else self.shortcut(features)
        return self.branch(features) + own


class WideResNet(PooledNet):
    """Three groups of blocks, the later two each at half the size, global pooling, one layer.

    Args:
        depth: Layers: 4 more than a multiple of 6.
        widen: Times the widths of 16, 32 and 64.
        num_classes: Logits.
        in_chans: Channels of the images.
        **_: What timm passes to every net (cache_dir ...); none of it applies here.
    """

    def __init__(
        self, depth: int, widen: int, num_classes: int = 100, in_chans: int = 3, **_: Any
    ) -> None:
        widths = [widen * STEM * 2**group for group in range(3)]
        layers: list[nn.Module] = [nn.Conv2d(in_chans, STEM, 3, padding=1)]
        before = STEM
        for width in widths:
            for number in range((depth - 4) // 6):
                layers.append(
                    WideBlock(before, width, 2 if number == 0 and width > widths[0] else 1)
                )
                before = width
        layers += [nn.BatchNorm2d(before), nn.ReLU(inplace=True)]
        super().__init__(layers, before, num_classes)


@register_model
def wide_resnet16_8(pretrained: bool = False, **kwargs: Any) -> WideResNet:
    """11.0 M weights: WRN-16-8."""
    return WideResNet(16, 8, **kwargs)


@register_model
def wide_resnet28_10(pretrained: bool = False, **kwargs: Any) -> WideResNet:
    """36.5 M weights: WRN-28-10."""
    return WideResNet(28, 10, **kwargs)
