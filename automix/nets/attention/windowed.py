"""Swin: tokens look at those of their window; windows are shifted, and 2 x 2 tokens merge."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, TypeGuard

import torch
import torch.nn as nn
import torch.nn.functional as F
from timm.layers import PatchEmbed
from timm.models.swin_transformer import (
    PatchMerging,
    SwinTransformer,
    SwinTransformerBlock,
    WindowAttention,
)
from torch import Tensor

from automix.nets.attention.layouts import Query
from automix.nets.attention.plain import patches

_LEAST = 1e-30
"""Share of its attention that a token is taken to give to the image at least."""


def is_windowed(net: nn.Module) -> TypeGuard[SwinTransformer]:
    """Return whether a net is timm's Swin, with attention and merging of the standard kind."""
    if not (isinstance(net, SwinTransformer) and isinstance(net.patch_embed, PatchEmbed)):
        return False
    stages: Sequence[Any] = list(net.layers)
    return all(type(stage.downsample) in (nn.Identity, PatchMerging) for stage in stages) and all(
        type(block) is SwinTransformerBlock and type(block.attn) is WindowAttention
        for stage in stages
        for block in stage.blocks
    )


class Windowed:
    """The tokens of such a net as maps (b, h', w'); see ``Layout`` for the methods."""

    def __init__(self, net: SwinTransformer) -> None:
        stages: Sequence[Any] = list(net.layers)
        self._blocks: list[Any] = []
        self._merges = set[int]()
        for stage in stages:
            if isinstance(stage.downsample, PatchMerging):
                self._merges.add(len(self._blocks))
            self._blocks += stage.blocks
        self.attentions: Sequence[Any] = [block.attn for block in self._blocks]
        self.alike = len(stages[-1].blocks)
        self._embedding: Any = net.patch_embed

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return rows and columns of the tokens of the last block."""
        rows, columns = self._embedding.dynamic_feat_size(size)
        for _ in self._merges:
            rows, columns = math.ceil(rows / 2), math.ceil(columns / 2)
        return rows, columns

    def begun(self, weights: Tensor) -> Tensor:
        """Return labels (b, h', w') of the patches."""
        return patches(self._embedding, weights)[:, 0]

    def passed(self, block: int, labels: Tensor, attention: Tensor) -> Tensor:
        """Return labels (b, h', w') behind a block, and behind the merging before it."""
        if block in self._merges:  # at odd ends less than four tokens are merged
            labels = F.avg_pool2d(labels[:, None], 2, ceil_mode=True)[:, 0]
        # Padding, which fills up windows, is attended to and has no label: its share is left out.
        both = torch.stack([labels, torch.ones_like(labels)], -1)
        seen, share = self._applied(block, attention, both).unbind(-1)
        return (labels + seen / share.clamp_min(_LEAST)) / 2

    def read(self, labels: Tensor) -> Tensor:
        """Return the mean over all tokens."""
        return labels.mean((1, 2))

    def looked_at(
        self, block: int, attention: Tensor, query: Query, size: tuple[int, int], *, even: bool
    ) -> Tensor:
        """Return what all tokens look at: none is the class's."""
        grid, window = self.grid(size), self._blocks[block].window_size
        windows = math.ceil(grid[0] / window[0]) * math.ceil(grid[1] / window[1])
        lookers = attention.new_ones(len(attention) // windows, *grid, 1)
        if even:
            lookers = lookers / self._applied(block, attention, lookers).clamp_min(_LEAST)
        return self._applied(block, attention.transpose(1, 2), lookers)[..., 0]

    def _applied(self, block: int, attention: Tensor, values: Tensor) -> Tensor:
        """Return what a block's attention makes of values (b, h', w', c) at its tokens.

        timm's own block shifts them, pads and cuts them into windows, and puts them back.
        """
        twin = copy.copy(self._blocks[block])
        twin._modules = {**twin._modules, "attn": _Applied(attention)}
        return twin._attn(values)


class _Applied(nn.Module):
    """Attention that is known, in place of what computes it."""

    def __init__(self, attention: Tensor) -> None:
        super().__init__()
        self._attention = attention

    def forward(self, windows: Tensor, mask: Tensor | None = None) -> Tensor:
        return self._attention @ windows  # in which the mask is already
