"""The last feature map of a net, whatever its layout, and the gradients of class scores there.

timm's nets have two halves, ``forward_features`` and ``forward_head``; the map is what passes
between them. A net that reads a class token (most vision transformers) takes nothing from the
other tokens there, so its map is what its last block is given: there the class token reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from automix.core.errors import ConfigError
from automix.nets.attention import Query, looked_at, spoken_for

Halves = tuple[Tensor, Tensor]
Back = Callable[[Tensor], Tensor]


class FeatureNet:
    """A net as something to look at: its logits, its last feature map, its attention.

    Args:
        net: One that ``has_features``, or ``has_attention``, as what is asked for needs.
    """

    def __init__(self, net: nn.Module) -> None:
        self._net = net

    def __call__(self, images: Tensor) -> Tensor:
        """Return logits, (b, k)."""
        return self._net(images)

    def features(self, images: Tensor) -> Tensor:
        """Return the last feature map, (b, c', h', w')."""
        return features(self._net, images)[0]

    def scored(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the last feature map and the gradients there of the scores, as ``scored`` does."""
        return scored(self._net, images, targets)

    def attended(self, images: Tensor, query: Query) -> Tensor:
        """Return where the last block looks, (b, h', w')."""
        return looked_at(self._net, images, query)[0]

    def spoken_for(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return where attention speaks for the targets, (b, h', w')."""
        return spoken_for(self._net, images, targets)[0]


def has_features(net: nn.Module) -> bool:
    """Return whether a net comes in two halves, as those of timm do."""
    return all(callable(getattr(net, f"forward_{half}", None)) for half in ("features", "head"))


def features(net: nn.Module, images: Tensor) -> tuple[Tensor]:
    """Return the last feature map, (b, c', h', w')."""
    return (halves(net, images)[0].detach(),)


def scored(net: nn.Module, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the last feature map and the gradients of the scores there, (b, c', h', w') each.

    The score of an image is the sum of its logits, each times its target (b, k): the logit of
    its class, where that is one. Nothing goes backward beyond the head.
    """
    found, logits = halves(net, images)
    (gradients,) = torch.autograd.grad((logits.float() * targets).sum(), found)
    return found.detach(), gradients


def halves(net: nn.Module, images: Tensor) -> Halves:
    """Return the last feature map (b, c', h', w') and logits (b, k) whose graph begins there.

    Raises:
        ConfigError: If the net has no such map.
    """
    if not has_features(net):
        raise ConfigError(
            f"{type(net).__name__} does not show its last feature map: it lacks forward_features "
            "or forward_head",
            "take one of timm's nets, or saliency 'gradient', which works with every net",
        )
    if getattr(net, "global_pool", None) == "token":
        return _before_last_block(net, images)
    with torch.no_grad():
        found = _called(net, "features", images)
    found, back = as_map(net, found.detach(), images)
    found.requires_grad_()
    with torch.enable_grad():
        return found, _called(net, "head", back(found))


def _before_last_block(net: nn.Module, images: Tensor) -> Halves:
    blocks = getattr(net, "blocks", None)
    if not isinstance(blocks, nn.Sequential | nn.ModuleList):
        raise ConfigError(
            f"{type(net).__name__} reads a class token and does not show its blocks, so that it "
            "has no feature map to look at",
            "take saliency 'gradient', which works with every net",
        )
    seen: list[Tensor] = []

    def begin(block: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        found, back = as_map(net, inputs[0].detach(), images)
        seen.append(found.requires_grad_())
        torch.set_grad_enabled(True)  # from here on; what is around puts it back
        return (back(found), *inputs[1:])

    handle = blocks[-1].register_forward_pre_hook(begin)
    try:
        with torch.no_grad():
            logits = _called(net, "head", _called(net, "features", images))
    finally:
        handle.remove()
    return seen[0], logits


def _called(net: nn.Module, half: str, given: Tensor) -> Tensor:
    return getattr(net, f"forward_{half}")(given)


def as_map(net: nn.Module, found: Tensor, images: Tensor) -> tuple[Tensor, Back]:
    """Return a net's features as a map (b, c', h', w'), and what turns a map back into them.

    Tokens that are of no place, such as a class token, are left out, and put back as they were.

    Args:
        net: Whose they are.
        found: Maps (b, c', h', w'), or (b, h', w', c') where the net says so, or tokens (b, n, c').
        images: (b, c, h, w), of which h and w are read.

    Raises:
        ConfigError: If they have another form.
    """
    if found.dim() == 4 and str(getattr(net, "output_fmt", "NCHW")) == "NHWC":
        return found.permute(0, 3, 1, 2), lambda one: one.permute(0, 2, 3, 1)
    if found.dim() == 4:
        # As it is, but for the head: some begin in place, which the beginning of a graph forbids.
        return found, torch.clone
    if found.dim() == 3:
        grid = _grid(net, found.shape[1], images)
        prefix = found[:, : found.shape[1] - grid[0] * grid[1]]
        tokens = found[:, prefix.shape[1] :].transpose(1, 2).unflatten(2, grid)
        return tokens, lambda one: torch.cat([prefix, one.flatten(2).transpose(1, 2)], 1)
    raise ConfigError(
        f"{type(net).__name__} has features of shape {tuple(found.shape)}, wanted a map "
        "(b, c, h, w) or tokens (b, n, c)",
        "take saliency 'gradient', which works with every net",
    )


def _grid(net: nn.Module, tokens: int, images: Tensor) -> tuple[int, int]:
    """Return rows and columns of a net's tokens, which may follow some that are of no place."""
    prefixes = dict.fromkeys((int(getattr(net, "num_prefix_tokens", None) or 0), 0))
    known = getattr(getattr(net, "patch_embed", None), "grid_size", None)
    height, width = images.shape[2:]
    for n in (tokens - prefix for prefix in prefixes):
        if known is not None and known[0] * known[1] == n:
            return int(known[0]), int(known[1])
        rows = max(1, round((n * height / width) ** 0.5))
        if n % rows == 0 and abs(n // rows - rows * width / height) < 1:
            return rows, n // rows
    raise ConfigError(
        f"the {tokens} tokens of {type(net).__name__} make no grid of an image of {height} x "
        f"{width} pixels",
        "take saliency 'gradient', which works with every net",
    )
