"""What the nets of a stack were lately: the moving average of their weights."""

from __future__ import annotations

import copy

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from automix.nets.stacking import Stack


class Average:
    """A stack whose weights follow those of another, step by step.

    Running statistics follow too, as in timm; whole numbers are copied. Its nets are in evaluation
    mode and receive no gradients.

    Args:
        network: The stack that trains; its present weights are the first average.
        decay: What remains of the average at a step, in [0, 1).
    """

    def __init__(self, network: Stack, decay: float) -> None:
        self.stack = copy.deepcopy(network)
        self.stack.module().eval().requires_grad_(False)
        own, followed = (one.module().state_dict() for one in (self.stack, network))
        pairs = [(own[name], value) for name, value in followed.items()]
        self._floats = [pair for pair in pairs if pair[0].is_floating_point()]
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]
        self._follow = get_ema_multi_avg_fn(decay)

    @torch.no_grad()
    def update(self) -> None:
        """Take one step towards the weights as they are now."""
        own, followed = zip(*self._floats, strict=True)
        self._follow(own, followed, 0)
        for count, now in self._counts:
            count.copy_(now)
