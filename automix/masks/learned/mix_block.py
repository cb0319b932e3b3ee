"""Mix Blocks: masks drawn from the feature maps of the images that are mixed.

Each place of an image asks the others' maps, by attention, how much it is to give way. Liu et al.
2022, AutoMix, arXiv:2103.13027, section 3.2; the forms of SAMix and AdAutoMix follow.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

SPREAD = 0.01
"""Standard deviation of the weights at first: masks begin close to equal."""


class MixBlock(nn.Module, ABC):
    """Makes masks of scores; what scores are is for its kinds to say.

    The masks of images that are mixed sum to 1 in every pixel.
    """

    upsampling = "bilinear"

    def forward(self, maps: Tensor, weights: Tensor, size: tuple[int, int]) -> Tensor:
        """Return masks, (n, b, 1, h, w) float32.

        Args:
            maps: (n, b, c, h', w') feature maps of the n images in each of b mixtures.
            weights: (n, b) float32: what each is to weigh; they sum to 1.
            size: (h, w) of the images.
        """
        # In bfloat16 the attention of two places that differ little would be the same.
        with torch.autocast(maps.device.type, enabled=False):
            scores = self.scores(maps.float(), weights)
            masks = F.interpolate(scores, size, mode=self.upsampling).softmax(1)
        return masks.transpose(0, 1)[:, :, None]

    @abstractmethod
    def scores(self, maps: Tensor, weights: Tensor) -> Tensor:
        """Return how strongly each image shows in each place, (b, n, h', w')."""

    def _begin_small(self) -> None:
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=SPREAD)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)


class PairBlock(MixBlock):
    """AutoMix: the partner's score is what a place of the own image finds in the partner.

    One projection makes queries of the own map and keys of the partner's.

    Args:
        channels: c.
        told: Whether the weights are a further channel of each map.
    """

    upsampling = "nearest"

    def __init__(self, channels: int, told: bool) -> None:
        super().__init__()
        self.told = told
        self.embed = nn.Conv2d(channels + told, max(1, channels // 2), 1)
        self.value = nn.Conv2d(channels + told, 1, 1)
        self._begin_small()

    def scores(self, maps: Tensor, weights: Tensor) -> Tensor:
        """Return scores, those of the own image 0."""
        own, partner = with_weights(maps, weights) if self.told else maps
        found = attended(self.embed(own), self.embed(partner), self.value(partner))
        # The softmax of 0 and a score is its sigmoid.
        return torch.cat([torch.zeros_like(found), found], 1)


class JointBlock(MixBlock):
    """SAMix: queries and keys see both maps, and the value is not linear.

    Maps are multiplied by 1 and their weight.

    Args:
        channels: c.
        told: Whether they are.
    """

    def __init__(self, channels: int, told: bool) -> None:
        super().__init__()
        self.told = told
        inner = max(1, channels // 2)
        self.query = nn.Conv2d(2 * channels, inner, 1)
        self.key = nn.Conv2d(2 * channels, inner, 1, bias=False)  # which no softmax would feel
        layers = [nn.Conv2d(channels, inner, 1), nn.ReLU(), nn.Conv2d(inner, 1, 1)]
        self.value = nn.Sequential(*layers)
        self._begin_small()

    def scores(self, maps: Tensor, weights: Tensor) -> Tensor:
        """Return scores, those of the own image 0."""
        own, partner = maps * (1 + weights[..., None, None, None]) if self.told else maps
        both = torch.cat([own, partner], 1)
        found = attended(self.query(both), self.key(both), self.value(partner))
        return torch.cat([torch.zeros_like(found), found], 1)


class CrowdBlock(MixBlock):
    """AdAutoMix: each of n images is scored by what it finds in all others.

    Args:
        channels: c.
        told: Whether the weights are a further channel of each map.
    """

    def __init__(self, channels: int, told: bool) -> None:
        super().__init__()
        self.told = told
        inner = max(1, channels // 2)
        self.query = nn.Conv2d(channels + told, inner, 1)
        # What is the same for all keys, or all images, no softmax would feel.
        self.key = nn.Conv2d(channels + told, inner, 1, bias=False)
        self.value = nn.Conv2d(channels + told, 1, 1, bias=False)
        self._begin_small()

    def scores(self, maps: Tensor, weights: Tensor) -> Tensor:
        """Return the scores of all."""
        given = list(with_weights(maps, weights) if self.told else maps)
        keys = [self.key(one) for one in given]
        everyone = torch.stack(keys).sum(0)
        found = [
            attended(self.query(one), everyone - key, self.value(one))
            for one, key in zip(given, keys, strict=True)
        ]
        return torch.cat(found, 1)


def with_weights(maps: Tensor, weights: Tensor) -> Tensor:
    """Return maps (n, b, c + 1, h', w') that end in a channel of their weight."""
    n, b, _, *place = maps.shape
    return torch.cat([maps, weights[..., None, None, None].expand(n, b, 1, *place)], 2)


def attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return what the places of a query find: values (b, 1, h', w') weighed by attention.

    Args:
        query: (b, d, h', w').
        key: The same.
        value: (b, 1, h', w').
    """
    q, k, v = (one.flatten(2).transpose(1, 2) for one in (query, key, value))
    found = F.scaled_dot_product_attention(q, k, v)
    return found.transpose(1, 2).unflatten(2, query.shape[2:])
