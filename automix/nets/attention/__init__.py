"""What a transformer's attention says of the images: maps of it, and labels carried along it.

Everything is read off timm's own forward pass: while it runs, the attention that is looked at is
not fused, and a hook takes it where dropout would; what comes out is what the net computes anyway.
A ``Layout`` knows where the tokens of a net lie, one file for each family of nets.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from automix.core.errors import ConfigError
from automix.nets.attention.layouts import Layout
from automix.nets.attention.layouts import Query as Query
from automix.nets.attention.plain import Plain, is_plain
from automix.nets.attention.pyramid import Pyramid, is_pyramid
from automix.nets.attention.windowed import Windowed, is_windowed

See = Callable[[int, Tensor], None]
"""Called with the position of a module and its attention (b', heads, q, k)."""

_TINY = 1e-30
"""Makes a map of zeros uniform, and is lost in one whose peak is 1."""


def has_attention(net: nn.Module) -> bool:
    """Return whether a net's attention can be looked at: timm's ViT and DeiT, Swin and PVT v2."""
    return _found_layout(net) is not None


def attended(net: nn.Module, images: Tensor, query: Query = "class") -> tuple[Tensor, Tensor]:
    """Run a net, and return where its last block looks, as the mean over heads.

    Args:
        net: One that ``has_attention``.
        images: (b, c, h, w).
        query: Who looks. Where no token is the class's, both are the mean over all tokens.

    Returns:
        Logits (b, k), with a graph, and maps (b, h', w') float32 without one, each of which sums
        to 1; what is looked at outside the image (class token, registers) is left out.

    Raises:
        ConfigError: If the net has no attention that can be looked at.
    """
    layout, seen = layout_of(net), list[Tensor]()
    with _observed(layout.attentions[-1:], lambda _, attention: seen.append(_of_heads(attention))):
        logits = _eager(net)(images)
    with _exactly(images):
        return logits, _shares(layout.looked_at(-1, seen[0], query, _size(images), even=True))


def looked_at(net: nn.Module, images: Tensor, query: Query) -> tuple[Tensor]:
    """Return the maps of ``attended`` alone, (b, h', w')."""
    with torch.no_grad():
        return (attended(net, images, query)[1],)


def spoken_for(net: nn.Module, images: Tensor, targets: Tensor) -> tuple[Tensor]:
    """Return where the attention of the blocks speaks for the targets (b, k).

    The score of an image is the sum of its logits, each times its target. For each block, the mean
    over heads of the positive part of attention times its gradient, times the mean over heads of
    the positive part of the gradient; summed over the blocks whose tokens lie as those of the last.

    Returns:
        Maps (b, h', w') float32 that sum to 1.

    Raises:
        ConfigError: If the net has no attention that can be looked at.
    """
    layout, seen = layout_of(net), list[Tensor]()

    def see(_: int, attention: Tensor) -> None:
        seen.append(attention.requires_grad_())  # for nets whose weights are frozen

    with torch.enable_grad(), _observed(layout.attentions[-layout.alike :], see):
        logits = _eager(net)(images)
        gradients = torch.autograd.grad((logits.float() * targets).sum(), seen)
    size = _size(images)
    with torch.no_grad(), _exactly(images):
        maps = [
            layout.looked_at(
                block, _positive(found.float(), gradient.float()), "class", size, even=False
            )
            for block, (found, gradient) in enumerate(
                zip(seen, gradients, strict=True), -layout.alike
            )
        ]
        return (_shares(torch.stack(maps).sum(0)),)


def carried(net: nn.Module, images: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Run a net, and carry a label along with the images.

    Each token begins with the weight of the partner at its place, and the class token with that
    of the image. Each block makes it ``(own + what is attended to) / 2``, as the residual path
    does with what the tokens hold.

    Args:
        net: One that ``has_attention``.
        images: (b, c, h, w).
        weights: (b, 1, h, w) in [0, 1]: the partner's weight in each pixel.

    Returns:
        Logits (b, k), with a graph, and the weight (b,) float32 without one that arrives where
        the head reads: at the class token, or as the mean over tokens.

    Raises:
        ConfigError: If the net has no attention that can be looked at.
    """
    layout = layout_of(net)
    with _exactly(images):
        labels = layout.begun(weights.float())

    def see(block: int, attention: Tensor) -> None:
        nonlocal labels
        with torch.no_grad(), _exactly(images):
            labels = layout.passed(block, labels, _of_heads(attention))

    with _observed(layout.attentions, see):
        logits = _eager(net)(images)
    return logits, layout.read(labels)


def token_masks(net: nn.Module, images: Tensor, weights: Tensor) -> Tensor:
    """Return weights (b, 1, h, w) at the places of ``attended``, (b, h', w'): the nearest pixel's.

    Of a cell with an even number of pixels, the nearest is the one below and right of its middle.
    """
    return F.interpolate(weights, size=grid_of(net, images), mode="nearest-exact")[:, 0]


def grid_of(net: nn.Module, images: Tensor) -> tuple[int, int]:
    """Return rows and columns of the maps of ``attended`` for images (b, c, h, w)."""
    return layout_of(net).grid(_size(images))


def layout_of(net: nn.Module) -> Layout:
    """Return where the tokens of a net lie.

    Raises:
        ConfigError: If it is no net whose attention can be looked at.
    """
    layout = _found_layout(net)
    if layout is None:
        raise ConfigError(
            f"{type(net).__name__} shows no attention, wanted timm's ViT, DeiT, Swin or PVT v2",
            "take such a net, for example vit_digits, or saliency 'cam' or 'gradcam', which look "
            "at the last feature map of any net of timm",
        )
    return layout


def _found_layout(net: nn.Module) -> Layout | None:
    if is_plain(net):
        return Plain(net)
    if is_windowed(net):
        return Windowed(net)
    return Pyramid(net) if is_pyramid(net) else None


@contextmanager
def _observed(attentions: Sequence[Any], see: See) -> Iterator[None]:
    """Pass on the attention of some modules as they are called."""
    fused, handles = [module.fused_attn for module in attentions], []
    try:
        for i, module in enumerate(attentions):
            handles.append(module.attn_drop.register_forward_pre_hook(partial(_observe, see, i)))
            module.fused_attn = False  # a fused one never holds what is asked for
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module, was in zip(attentions, fused, strict=True):
            module.fused_attn = was


def _observe(see: See, position: int, _: nn.Module, inputs: tuple[Tensor]) -> None:
    see(position, inputs[0])


def _size(images: Tensor) -> tuple[int, int]:
    return images.shape[2], images.shape[3]


def _eager(net: nn.Module) -> nn.Module:
    """Return a twin that shares everything and is not compiled: that would not see the hooks."""
    return copy.copy(net)


def _exactly(images: Tensor) -> torch.autocast:
    """Compute in float32, whatever precision the net runs in."""
    return torch.autocast(images.device.type, enabled=False)


def _of_heads(attention: Tensor) -> Tensor:
    return attention.detach().float().mean(1)


def _positive(attention: Tensor, gradients: Tensor) -> Tensor:
    return (attention * gradients).clamp_min(0).mean(1) * gradients.clamp_min(0).mean(1)


def _shares(maps: Tensor) -> Tensor:
    """Scale maps (b, h', w') to sum to 1; of zeros, and of what is no number, to be uniform."""
    maps = torch.nan_to_num(maps, nan=0.0, posinf=0.0)
    maps = maps / maps.amax((1, 2), keepdim=True).clamp_min(_TINY) + _TINY
    return maps / maps.sum((1, 2), keepdim=True)
