"""A net in stages: what it makes of images up to a stage, and what it makes of that.

timm's nets are chains of parts that end in ``forward_head``. A stage is what comes out behind some
of them: where the map is about to shrink, or a third of a transformer's blocks further. The last
stage is what the head is given. A net that reads a class token takes nothing from the other tokens
there, so its last stage is what its last block is given (as in ``automix.nets.feature_maps``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch.nn as nn
from timm.models.convnext import ConvNeXt
from timm.models.pvt_v2 import PyramidVisionTransformerV2
from timm.models.resnet import ResNet
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from automix.core.errors import ConfigError
from automix.nets.zoo.pooled import PooledNet

SPREAD = 3
"""Stages of a transformer whose blocks are all of one size."""

Part = Callable[[Tensor], Tensor]


class Staged:
    """A net that can be entered and left between its parts.

    For every stage ``forward_from(stage, forward_to(stage, images))`` is ``net(images)``, to the
    last bit; each part runs once, in order, so that dropout draws and batch norm counts alike.

    Args:
        parts: Whose chain is the net, the head last.
        cuts: How many parts are behind each stage, the first of them 0.
    """

    def __init__(self, parts: Sequence[Part], cuts: Sequence[int]) -> None:
        self._parts, self._cuts = parts, cuts

    @property
    def count(self) -> int:
        """The last stage; stage 0 are the images."""
        return len(self._cuts) - 1

    def forward_to(self, stage: int, images: Tensor) -> Tensor:
        """Return what images (b, c, h, w) are at a stage, as the net hands it on.

        Maps (b, c', h', w') or (b, h', w', c'), or tokens (b, n, c');
        ``automix.nets.feature_maps.as_map`` brings all of them into one form.
        """
        return _chained(self._parts[: self._cuts[stage]], images)

    def forward_from(self, stage: int, features: Tensor) -> Tensor:
        """Return the logits (b, k) of what ``forward_to`` returned, or of what was made of it."""
        return _chained(self._parts[self._cuts[stage] :], features)


def has_stages(net: nn.Module) -> bool:
    """Return whether a net can be cut into stages."""
    return _kind_of(net) is not None


def stages(net: nn.Module) -> Staged:
    """Cut a net into stages; it is looked into, not copied.

    Raises:
        ConfigError: If its parts are not known.
    """
    kind = _kind_of(net)
    if kind is None:
        raise ConfigError(
            f"{type(net).__name__} cannot be cut into stages: it is none of "
            + ", ".join(kind.__name__ for kind in KINDS),
            "take one of timm's nets of these kinds, for example small_cnn_w8",
        )
    return KINDS[kind](net)


def _kind_of(net: nn.Module) -> type[nn.Module] | None:
    """Return the class whose chain of parts a net is; a subclass may have a way of its own."""
    for kind in KINDS:
        if isinstance(net, kind) and all(
            getattr(type(net), name) is getattr(kind, name)
            for name in ("forward", "forward_features")
        ):
            return kind
    return None


def _chained(parts: Sequence[Part], found: Tensor) -> Tensor:
    for part in parts:
        found = part(found)
    return found


def _pooled(net: Any) -> Staged:
    layers = list(net.features)
    shrinking = [i for i, layer in enumerate(layers) if i and _shrinks(layer)]
    return Staged([*layers, net.forward_head], [0, *shrinking, len(layers)])


def _shrinks(layer: nn.Module) -> bool:
    strides = [getattr(module, "stride", 1) for module in layer.modules()]
    return any(stride not in (1, (1, 1)) for stride in strides)


def _resnet(net: Any) -> Staged:
    stem = [net.conv1, net.bn1, net.act1, net.maxpool]
    return _in_levels(net, stem, [net.layer1, net.layer2, net.layer3, net.layer4])


def _convnext(net: Any) -> Staged:
    return _in_levels(net, [net.stem], net.stages, [net.norm_pre])


def _swin(net: Any) -> Staged:
    return _in_levels(net, [net.patch_embed], net.layers, [net.norm])


def _pvt(net: Any) -> Staged:
    return _in_levels(net, [net.patch_embed], net.stages)


def _in_levels(
    net: Any, stem: Sequence[Part], levels: Sequence[Part], after: Sequence[Part] = ()
) -> Staged:
    """Cut behind each level, and behind what follows the last one."""
    parts = [*stem, *levels, *after]
    first = len(stem) + 1
    return Staged(
        [*parts, net.forward_head], [0, *range(first, first + len(levels) - 1), len(parts)]
    )


def _vit(net: Any) -> Staged:
    stem = [net.patch_embed, net._pos_embed, net.patch_drop, net.norm_pre]
    blocks = list(net.blocks)
    last = len(blocks) - (net.global_pool == "token")
    behind = sorted({round(last * i / SPREAD) for i in range(1, SPREAD + 1)} - {0}) or [0]
    parts = [*stem, *blocks, net.norm]
    cuts = [len(stem) + n for n in behind]
    if last == len(blocks):
        cuts[-1] = len(parts)
    return Staged([*parts, net.forward_head], [0, *cuts])


KINDS: Mapping[type[nn.Module], Callable[[Any], Staged]] = {
    PooledNet: _pooled,
    ResNet: _resnet,
    ConvNeXt: _convnext,
    VisionTransformer: _vit,
    SwinTransformer: _swin,
    PyramidVisionTransformerV2: _pvt,
}
"""Class -> how a net of it is cut."""
