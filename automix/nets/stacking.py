"""Several nets of one architecture as one net, whose channels are the nets side by side.

Small nets waste most of a processor on dispatch. Stacked, k of them cost one set of calls: a
convolution becomes a grouped one, batch norm gets k times the channels, a linear layer becomes a
batched product. Activations and pooling need no change. Where a net holds anything else, the
stack falls back to a loop over the nets behind the same call.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import pairwise
from types import EllipsisType
from typing import Protocol, cast

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call
from torch.nn.utils.fusion import fuse_conv_bn_weights

_WEIGHTED = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)
"""Leaves that have a grouped twin."""

_CHANNELWISE = (
    nn.Identity,
    nn.ReLU,
    nn.ReLU6,
    nn.GELU,
    nn.SiLU,
    nn.Hardswish,
    nn.LeakyReLU,
    nn.ELU,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.Flatten,
)
"""Leaves that treat every channel alike and by itself."""


Part = tuple[Tensor, slice | EllipsisType]
"""A tensor and the rows of it that belong to one member."""

Question = Callable[..., tuple[Tensor, ...]]
"""Asked of a net and inputs (b, m, ...), it answers with tensors (b, n, ...). Members side by side
are one net, whose channels and classes are theirs side by side."""


class Stack(Protocol):
    """k nets behind one call."""

    members: int
    draws: bool
    """Whether the nets may draw random numbers (dropout) from torch's generator."""

    def __call__(self, images: Tensor) -> Tensor:
        """Map images (b, k, c, h, w) to logits (b, k, classes)."""
        ...

    def ask(
        self, chosen: Sequence[int], question: Question, *inputs: Tensor, trains: bool = False
    ) -> tuple[Tensor, ...]:
        """Ask some members, with inputs (b, len(chosen), ...) and answers of the same form.

        Args:
            chosen: Which, in the order of the inputs.
            question: What to do with a net.
            inputs: One for each member in each.
            trains: Whether gradients must reach the weights; else they need reach the inputs only.
        """
        ...

    def evaluator(self) -> Callable[[Tensor], Tensor]:
        """Return the nets in evaluation mode, as they are now.

        The images are (b, j, c, h, w), where j divides k: k / j neighbours see the same image.
        """
        ...

    def compile(self, mode: str) -> None:
        """Compile the call for training with ``torch.compile``."""
        ...

    def module(self) -> nn.Module:
        """Return what holds the weights: for the optimizer, the device, train and eval mode."""
        ...

    def parts(self, member: int) -> dict[str, Part]:
        """Return where a member's weights and statistics lie, by their names in its own net."""
        ...

    def member_squares(self) -> Tensor:
        """Return the sum of squared gradients of each member, (k,)."""
        ...


class GroupedConv2d(nn.Module):
    """k convolutions as one with k times the groups; weight (k * out, in, kh, kw)."""

    def __init__(self, convs: Sequence[nn.Conv2d]) -> None:
        super().__init__()
        first = convs[0]
        self.weight = nn.Parameter(torch.cat([c.weight.detach() for c in convs]))
        self.bias = _joined([c.bias for c in convs])
        self.stride, self.padding, self.dilation = first.stride, first.padding, first.dilation

    def forward(self, images: Tensor) -> Tensor:
        """Map (b, k * in, h, w) to (b, k * out, h', w')."""
        return self.convolved(images, self.weight, self.bias)

    def convolved(self, images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve with other weights of the same form."""
        # From the shapes, not from k, so that a slice of the members runs through the same module.
        groups = images.shape[1] // weight.shape[1]
        return F.conv2d(images, weight, bias, self.stride, self.padding, self.dilation, groups)


class GroupedLinear(nn.Module):
    """k linear layers; weight (k * out, in), features (b, k * in) to (b, k * out)."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.cat([layer.weight.detach() for layer in layers]))
        self.bias = _joined([layer.bias for layer in layers])
        self.out_features, self.in_features = layers[0].out_features, layers[0].in_features

    def forward(self, features: Tensor) -> Tensor:
        """Map (b, k * in) to (b, k * out)."""
        k = self.weight.shape[0] // self.out_features
        weight = self.weight.view(k, self.out_features, self.in_features)
        each = features.view(-1, k, self.in_features).transpose(0, 1)
        product = torch.bmm(each, weight.transpose(1, 2)).transpose(0, 1).flatten(1)
        return product if self.bias is None else product + self.bias


def _joined(parameters: Sequence[Tensor | None]) -> nn.Parameter | None:
    present = [p.detach() for p in parameters if p is not None]
    return nn.Parameter(torch.cat(present)) if present else None


def _joined_norm(norms: Sequence[nn.BatchNorm2d]) -> nn.BatchNorm2d:
    first = norms[0]
    channels = first.num_features * len(norms)
    joined = nn.BatchNorm2d(
        channels, first.eps, first.momentum, first.affine, first.track_running_stats
    )
    states = [norm.state_dict() for norm in norms]
    joined.load_state_dict(
        {
            name: torch.cat([state[name] for state in states]) if value.dim() else value
            for name, value in states[0].items()
        }
    )
    return joined


class GroupedStack:
    """k nets as one net of grouped layers; see ``Stack`` for the methods."""

    draws = False  # no layer that has a twin does

    def __init__(self, nets: Sequence[nn.Module]) -> None:
        self.members = len(nets)
        self._net = _grouped([copy.deepcopy(nets[0]), *nets[1:]])
        self._folded: nn.Module | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """Map images (b, k, c, h, w) to logits (b, k, classes)."""
        return self._net(_side_by_side(images)).view(len(images), self.members, -1)

    def ask(
        self, chosen: Sequence[int], question: Question, *inputs: Tensor, trains: bool = False
    ) -> tuple[Tensor, ...]:
        """Ask some members, with weights that no gradient reaches unless it trains."""
        rows = torch.as_tensor(chosen, device=inputs[0].device)
        everyone = list(chosen) == list(range(self.members))
        part = {}
        for name, value in [*self._net.named_parameters(), *self._net.named_buffers()]:
            if value.dim():
                own = value if trains else value.detach()
                chunks = own if everyone else own.unflatten(0, (self.members, -1))[rows]
                part[f"net.{name}"] = own if everyone else chunks.flatten(0, 1)
        # A twin that shares the weights and is not compiled: other weights would compile it anew.
        asked = _Asked(copy.copy(self._net), question)
        answers = functional_call(asked, part, tuple(_side_by_side(one) for one in inputs))
        if trains and not everyone:
            self._keep_statistics(rows, part)
        return tuple(one.unflatten(1, (len(chosen), -1)) for one in answers)

    @torch.no_grad()
    def _keep_statistics(self, rows: Tensor, part: dict[str, Tensor]) -> None:
        """Write running statistics of some members, which a call has moved, to their place."""
        for name, value in self._net.named_buffers():
            if value.dim():
                own = part[f"net.{name}"].unflatten(0, (len(rows), -1))
                value.unflatten(0, (self.members, -1))[rows] = own

    def evaluator(self) -> Callable[[Tensor], Tensor]:
        """Return the nets in evaluation mode, with batch norm folded into the convolutions."""
        self._net.eval()
        if self._folded is None:
            self._folded = _folded(self._net)
        net = self._folded
        for module in net.modules():
            if isinstance(module, _FoldedConv2d):
                module.fold()

        def evaluate(images: Tensor) -> Tensor:
            b, j, *shape = images.shape
            images = images[:, :, None].expand(b, j, self.members // j, *shape).flatten(1, 2)
            return net(_side_by_side(images)).view(len(images), self.members, -1)

        return evaluate

    def compile(self, mode: str) -> None:
        """Compile the call for training."""
        self._net.compile(mode=mode)

    def module(self) -> nn.Module:
        """Return what holds the weights."""
        return self._net

    def parts(self, member: int) -> dict[str, Part]:
        """Return where a member's weights and statistics lie."""
        return {
            name: (value, _rows(value, member, self.members))
            for name, value in [*self._net.named_parameters(), *self._net.named_buffers()]
        }

    def member_squares(self) -> Tensor:
        """Return the squared gradient norm of each member, (k,)."""
        squares = [
            p.grad.reshape(self.members, -1).square().sum(1)
            for p in self._net.parameters()
            if p.grad is not None
        ]
        return torch.stack(squares).sum(0)


class _Asked(nn.Module):
    """A net and a question to it, as a module whose weights can be replaced for one call."""

    def __init__(self, net: nn.Module, question: Question) -> None:
        super().__init__()
        self.net, self._question = net, question

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self._question(self.net, *inputs)


def logits_of(net: nn.Module, images: Tensor) -> tuple[Tensor]:
    """Ask a net for its logits."""
    return (net(images),)


def _rows(value: Tensor, member: int, members: int) -> slice | EllipsisType:
    """Return a member's rows; what has no rows, such as a count of batches, is common to all."""
    if value.dim() == 0:
        return ...
    size = len(value) // members
    return slice(member * size, (member + 1) * size)


def _side_by_side(each: Tensor) -> Tensor:
    """Turn (b, k, c, h, w) into (b, k * c, h, w) with the channels innermost in memory."""
    joined = each.flatten(1, 2)
    return joined.contiguous(memory_format=torch.channels_last) if joined.dim() == 4 else joined


class LoopedStack:
    """k nets, called one after the other; see ``Stack`` for the methods."""

    def __init__(self, nets: Sequence[nn.Module]) -> None:
        self.members = len(nets)
        self._nets = nn.ModuleList([copy.deepcopy(net) for net in nets])
        self.draws = not can_group(nets[0])

    def __call__(self, images: Tensor) -> Tensor:
        """Map images (b, k, c, h, w) to logits (b, k, classes)."""
        return self.ask(range(self.members), logits_of, images)[0]

    def ask(
        self, chosen: Sequence[int], question: Question, *inputs: Tensor, trains: bool = False
    ) -> tuple[Tensor, ...]:
        """Ask some members; gradients reach the weights in any case."""
        answers = []
        for i, member in enumerate(chosen):
            # Every member draws the same dropout, whichever others there are; only the last one
            # moves the generator on.
            with same_draws_afterwards(inputs[0].device, enabled=i + 1 < len(chosen)):
                answers.append(question(self._nets[member], *(one[:, i] for one in inputs)))
        if len(chosen) == 1:
            return tuple(one[:, None] for one in answers[0])
        return tuple(torch.stack(parts, 1) for parts in zip(*answers, strict=True))

    def evaluator(self) -> Callable[[Tensor], Tensor]:
        """Return the nets in evaluation mode."""
        self._nets.eval()

        def evaluate(images: Tensor) -> Tensor:
            share = self.members // images.shape[1]
            return torch.stack([net(images[:, i // share]) for i, net in enumerate(self._nets)], 1)

        return evaluate

    def compile(self, mode: str) -> None:
        """Compile each net for training."""
        for net in self._nets:
            net.compile(mode=mode)

    def module(self) -> nn.Module:
        """Return what holds the weights."""
        return self._nets

    def parts(self, member: int) -> dict[str, Part]:
        """Return where a member's weights and statistics lie."""
        net = self._nets[member]
        return {
            name: (value, ...) for name, value in [*net.named_parameters(), *net.named_buffers()]
        }

    def member_squares(self) -> Tensor:
        """Return the squared gradient norm of each member, (k,)."""
        return torch.stack(
            [
                torch.stack(
                    [p.grad.square().sum() for p in net.parameters() if p.grad is not None]
                ).sum()
                for net in self._nets
            ]
        )


def stack(nets: Sequence[nn.Module]) -> Stack:
    """Return copies of nets of one architecture as one stack, grouped where the layers allow it.

    Args:
        nets: Classifiers, images (b, c, h, w) to logits (b, k); copied, not kept. The same net may
            be there several times.
    """
    return GroupedStack(nets) if len(nets) > 1 and can_group(nets[0]) else LoopedStack(nets)


def can_group(net: nn.Module) -> bool:
    """Return whether every leaf of the net has a grouped twin, and holds all of its weights.

    Only nets that say ``stackable = True`` are asked: a net's own ``forward`` may mix channels
    (concatenate, shuffle, attend) where no leaf shows it.
    """
    leaves = [m for m in net.modules() if not list(m.children())]
    named = [m for _, m in net.named_modules(remove_duplicate=False) if isinstance(m, _WEIGHTED)]
    held = [p for leaf in leaves for p in leaf.parameters(recurse=False)]
    # By exact type, because a subclass may have a forward of its own; and each weight is in one
    # place, because twins of weights that are shared would not share them.
    return (
        bool(getattr(net, "stackable", False))
        and len(held) == len(list(net.named_parameters(remove_duplicate=False)))
        and len(named) == len(set(named))
        and all(type(leaf) in (*_WEIGHTED, *_CHANNELWISE) for leaf in leaves)
        and all(getattr(leaf, "padding_mode", "zeros") == "zeros" for leaf in leaves)
    )


def _grouped(nets: Sequence[nn.Module]) -> nn.Module:
    """Join equal modules, leaf by leaf."""
    first = nets[0]
    if isinstance(first, nn.Conv2d):
        return GroupedConv2d([n for n in nets if isinstance(n, nn.Conv2d)])
    if isinstance(first, nn.Linear):
        return GroupedLinear([n for n in nets if isinstance(n, nn.Linear)])
    if isinstance(first, nn.BatchNorm2d):
        return _joined_norm([n for n in nets if isinstance(n, nn.BatchNorm2d)])
    for name, _ in list(first.named_children()):
        setattr(first, name, _grouped([n.get_submodule(name) for n in nets]))
    return first


def _folded(module: nn.Module) -> nn.Module:
    """Return a module that computes the same in evaluation mode, sharing what it does not fold.

    In every ``nn.Sequential`` a convolution followed by batch norm becomes one convolution.
    """
    # Not ``named_children``, which leaves out what is None and what has been named before.
    children = list(module._modules.items())
    if not children:
        return module
    twin = copy.copy(module)
    twin._modules = {name: None if child is None else _folded(child) for name, child in children}
    # By exact type: a subclass may have a forward of its own.
    if type(module) is nn.Sequential:
        for (name, conv), (following, norm) in pairwise(children):
            foldable = isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None
            if isinstance(conv, GroupedConv2d) and foldable:
                twin._modules[name] = _FoldedConv2d(conv, cast(nn.BatchNorm2d, norm))
                twin._modules[following] = nn.Identity()
    return twin


class _FoldedConv2d(nn.Module):
    """A convolution and the batch norm behind it, as they were when ``fold`` was called."""

    def __init__(self, conv: GroupedConv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self._layers = (conv, norm)  # in a tuple, so that their weights are not taken for its own

    def fold(self) -> None:
        """Take over the present weights and running statistics."""
        conv, norm = self._layers
        self._weights = fuse_conv_bn_weights(
            conv.weight,
            conv.bias,
            cast(Tensor, norm.running_mean),
            cast(Tensor, norm.running_var),
            norm.eps,
            norm.weight,
            norm.bias,
        )

    def forward(self, images: Tensor) -> Tensor:
        return self._layers[0].convolved(images, *self._weights)


def same_draws_afterwards(
    device: torch.device, enabled: bool = True
) -> AbstractContextManager[None]:
    """Put torch's generators back after the block, as if nothing had been drawn in it."""
    devices = [device] if device.type == "cuda" else []
    return torch.random.fork_rng(devices, enabled=enabled)


@contextmanager
def frozen_running_statistics(module: nn.Module) -> Iterator[None]:
    """Let batch norm use the batch's statistics without recording them.

    A saliency pass in training mode would otherwise move the running statistics twice a step.
    """
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    tracked = [m.track_running_stats for m in norms]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm, was in zip(norms, tracked, strict=True):
            norm.track_running_stats = was
