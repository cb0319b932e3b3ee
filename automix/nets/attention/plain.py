"""ViT and DeiT: all tokens look at all, behind some that have no place in the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

import torch
import torch.nn as nn
import torch.nn.functional as F
from timm.layers import Attention, PatchEmbed
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from automix.core.errors import ConfigError
from automix.nets.attention.layouts import Query


def is_plain(net: nn.Module) -> TypeGuard[VisionTransformer]:
    """Return whether a net is timm's ViT or DeiT, with attention of the standard kind."""
    return (
        isinstance(net, VisionTransformer)
        and isinstance(net.patch_embed, PatchEmbed)
        and isinstance(net.patch_drop, nn.Identity)  # else places get lost
        and net.attn_pool is None  # which looks once more
        and len(net.blocks) > 0
        and all(type(getattr(block, "attn", None)) is Attention for block in net.blocks)
    )


class Plain:
    """The tokens of such a net, row by row; see ``Layout`` for the methods."""

    def __init__(self, net: VisionTransformer) -> None:
        self.attentions: Sequence[Any] = [block.attn for block in net.blocks]
        self.alike = len(self.attentions)
        self._embedding, self._prefixes = net.patch_embed, net.num_prefix_tokens
        self._read = _read_tokens(net)

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return rows and columns of the patches."""
        return self._embedding.dynamic_feat_size(size)

    def begun(self, weights: Tensor) -> Tensor:
        """Return labels (b, n): the area of the image for the prefixes, then each patch's."""
        places = patches(self._embedding, weights).flatten(1)
        area = weights.mean((1, 2, 3))
        return torch.cat([area[:, None].expand(-1, self._prefixes), places], 1)

    def passed(self, block: int, labels: Tensor, attention: Tensor) -> Tensor:
        """Return labels (b, n) behind a block."""
        return (labels + (attention @ labels[:, :, None])[:, :, 0]) / 2

    def read(self, labels: Tensor) -> Tensor:
        """Return the mean over the tokens that the head reads."""
        return labels[:, self._read].mean(1)

    def looked_at(
        self, block: int, attention: Tensor, query: Query, size: tuple[int, int], *, even: bool
    ) -> Tensor:
        """Return what is looked at in the image."""
        grid = self.grid(size)
        rows = self._read if query == "class" else slice(self._prefixes, None)
        seen = attention[:, rows, self._prefixes :].sum(1)
        if seen.shape[1] != grid[0] * grid[1]:
            raise ConfigError(
                f"the net looks at {seen.shape[1]} places, and images of {size[0]} x {size[1]} "
                f"pixels have {grid[0]} x {grid[1]} patches",
                "take a net that keeps all of its tokens, or saliency 'gradient'",
            )
        return seen.unflatten(1, grid)


def _read_tokens(net: VisionTransformer) -> slice:
    """Return the tokens that the head reads."""
    if isinstance(net, VisionTransformerDistilled):
        return slice(0, 2)
    if net.global_pool == "token":
        return slice(0, 1)
    return slice(0 if net.pool_include_prefix else net.num_prefix_tokens, None)


def patches(embedding: PatchEmbed, weights: Tensor) -> Tensor:
    """Return the mean of weights (b, 1, h, w) over the pixels of each patch, (b, 1, h', w')."""
    return F.avg_pool2d(weights, embedding.patch_size, ceil_mode=embedding.dynamic_img_pad)
