"""PVT v2: all tokens of a stage look at blocks of them; overlapping patches lie between stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

import torch
import torch.nn as nn
import torch.nn.functional as F
from timm.models.pvt_v2 import Attention, PyramidVisionTransformerV2
from torch import Tensor

from automix.nets.attention.layouts import Query


def is_pyramid(net: nn.Module) -> TypeGuard[PyramidVisionTransformerV2]:
    """Return whether a net is timm's PVT v2, with attention of its own kind."""
    if not isinstance(net, PyramidVisionTransformerV2):
        return False
    stages: Sequence[Any] = list(net.stages)
    return all(type(block.attn) is Attention for stage in stages for block in stage.blocks)


class Pyramid:
    """The tokens of such a net as maps (b, 1, h', w'); see ``Layout`` for the methods.

    A token that a convolution makes of others has the mean of their labels, and so has a key that
    stands for a block of tokens.
    """

    def __init__(self, net: PyramidVisionTransformerV2) -> None:
        stages: Sequence[Any] = list(net.stages)
        blocks: list[Any] = []
        self._convolved = dict[int, nn.Conv2d]()
        for stage in stages:
            embedding: Any = stage.downsample if blocks else net.patch_embed
            self._convolved[len(blocks)] = embedding.proj
            blocks += stage.blocks
        self.attentions: Sequence[Any] = [block.attn for block in blocks]
        self.alike = len(stages[-1].blocks)

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return rows and columns of the keys of the last block."""
        labels = torch.empty(1, 1, *size, device="meta")
        for convolution in self._convolved.values():
            labels = _seen_by(convolution, labels)
        rows, columns = _keys(self.attentions[-1], labels).shape[2:]
        return rows, columns

    def begun(self, weights: Tensor) -> Tensor:
        """Return the weights themselves: the first block has patches before it, as others have."""
        return weights

    def passed(self, block: int, labels: Tensor, attention: Tensor) -> Tensor:
        """Return labels (b, 1, h', w') behind a block, and behind the patches before it."""
        if block in self._convolved:
            labels = _seen_by(self._convolved[block], labels)
        keys = _keys(self.attentions[block], labels).flatten(1)
        seen = (attention @ keys[:, :, None])[:, :, 0]
        return (labels + seen.view_as(labels)) / 2

    def read(self, labels: Tensor) -> Tensor:
        """Return the mean over all tokens."""
        return labels.mean((1, 2, 3))

    def looked_at(
        self, block: int, attention: Tensor, query: Query, size: tuple[int, int], *, even: bool
    ) -> Tensor:
        """Return what all tokens look at: none is the class's."""
        return attention.sum(1).unflatten(1, self.grid(size))


def _seen_by(convolution: nn.Conv2d, labels: Tensor) -> Tensor:
    """Return the mean of labels (b, 1, h', w') over what a convolution sees of the image."""
    padding: Any = convolution.padding
    return F.avg_pool2d(
        labels, convolution.kernel_size, convolution.stride, padding, count_include_pad=False
    )


def _keys(attention: Attention, labels: Tensor) -> Tensor:
    """Return the labels of what is attended to, (b, 1, h'', w'')."""
    if attention.pool is not None:
        return attention.pool(labels)
    return labels if attention.sr is None else _seen_by(attention.sr, labels)
