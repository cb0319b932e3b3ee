"""What convolutional nets end in: global pooling and one layer, with the names of timm's nets."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn as nn
from torch import Tensor


class PooledNet(nn.Module):
    """Layers, global average pooling, a linear layer.

    Args:
        layers: From images to the last feature map.
        width: Channels of that map.
        num_classes: Logits.
    """

    def __init__(self, layers: Sequence[nn.Module], width: int, num_classes: int) -> None:
        super().__init__()
        self.num_classes, self.num_features = num_classes, width
        self.features = nn.Sequential(*layers)
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width, num_classes)

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the last feature map, (b, width, h', w')."""
        return self.features(images)

    def forward_head(self, features: Tensor) -> Tensor:
        """Return logits, (b, num_classes)."""
        return self.fc(self.global_pool(features).flatten(1))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, (b, num_classes), for images (b, in_chans, h, w)."""
        return self.forward_head(self.forward_features(images))

    def get_classifier(self) -> nn.Module:
        """Return the last layer, as timm's nets do."""
        return self.fc
