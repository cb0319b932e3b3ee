"""What a learned mixer keeps: a slow copy of the classifier, a Mix Block, and its optimizer."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from math import cos, pi
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from automix.core.errors import ConfigError
from automix.core.seeding import borrowed_global_rng
from automix.core.settings import Range, within
from automix.masks.learned.mix_block import MixBlock
from automix.masks.method_steps import Setup
from automix.nets.feature_maps import as_map, halves
from automix.nets.stages import has_stages, stages

FEWEST = 10
"""Steps that the slow copy remembers at least, however short the training."""

FADED = 1000
"""How many times longer it remembers in the end: in the papers 0.999 becomes 0.999999."""

STEADY = 0.1
"""Part of the training after which its memory begins to grow."""

SETTINGS = ("stage", "memory", "lr", "told")
"""Settings of every learned mixer: which of the slow copy's feature maps the block is given, as
Python counts (the last one where the net cannot be cut into stages); how much of the training run
the slow copy remembers; the learning rate of the block, by Adam; whether it sees the weights."""

check_settings = within(
    memory=Range(1e-6, 1),
    lr=Range(0, 1),
    margin=Range(0, 0.5),
    every=Range(1),
    **dict.fromkeys(("area", "contrast", "hardness", "clean", "plain"), Range(0, 1e6)),
)
"""Refuses numbers, by keyword, that no learned mixer can work with."""

Maps = Tensor
"""(b, c, h', w')."""


class LearnedState:
    """The slow copy follows the classifier's weights and statistics at every step.

    It is in evaluation mode: its look at an image depends on no other image, and draws nothing.

    Args:
        setup: The training run, with the ``SETTINGS``; its net becomes the slow copy.
        block: Makes a Mix Block of the number of channels, and whether it sees the weights.

    Raises:
        ConfigError: If the net has no stage of the number that the settings name.
    """

    def __init__(self, setup: Setup, block: Callable[[int, bool], MixBlock]) -> None:
        stage, memory, lr, told = (setup.settings[name] for name in SETTINGS)
        self.net = setup.net.eval().requires_grad_(False)
        self._followers = dict(self.net.named_parameters()) | dict(self.net.named_buffers())
        self._stage = _counted(self.net, stage)
        self._memory, self._steps = memory, setup.steps
        channels = self.looked(torch.zeros(1, *setup.shape, device=setup.device))[0].shape[1]
        with borrowed_global_rng(setup.seed):
            self.block = block(channels, told)
        self.block.to(setup.device)
        self._optimizer = torch.optim.Adam(self.block.parameters(), lr=lr)
        self.followed = self.learned = 0

    @torch.no_grad()
    def looked(self, images: Tensor) -> tuple[Maps, Callable[[], Tensor]]:
        """Return maps of the slow copy, and what goes on from there to its logits (b, classes)."""
        if self._stage is None:
            last, logits = halves(self.net, images)
            return last.detach(), logits.detach
        cut = stages(self.net)
        found = cut.forward_to(self._stage, images)
        maps = as_map(self.net, found, images)[0]
        # A copy, because some parts begin in place.
        return maps, lambda: cut.forward_from(self._stage, found.clone())

    @torch.enable_grad()
    def learn(self, loss: Callable[[], Tensor]) -> None:
        """Let the block make a loss () smaller by one step; nothing else learns."""
        weights = list(self.block.parameters())
        for weight, gradient in zip(weights, torch.autograd.grad(loss(), weights), strict=True):
            weight.grad = gradient
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.learned += 1

    @torch.no_grad()
    def follow(self, weights: Mapping[str, Tensor]) -> None:
        """Move the slow copy towards the classifier, whichever method made the step."""
        keep = momentum_at(self.followed, self._steps, self._memory)
        moved = [name for name, own in self._followers.items() if own.is_floating_point()]
        average = get_ema_multi_avg_fn(keep)
        average([self._followers[name] for name in moved], [weights[name] for name in moved], 0)
        for name in self._followers.keys() - moved:
            self._followers[name].copy_(weights[name])
        self.followed += 1

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of everything."""
        return {
            "net": {name: value.detach().clone() for name, value in self._followers.items()},
            "block": {name: one.clone() for name, one in self.block.state_dict().items()},
            "optimizer": copy.deepcopy(self._optimizer.state_dict()["state"]),
            "followed": self.followed,
            "learned": self.learned,
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` returned."""
        for name, own in self._followers.items():
            own.copy_(state["net"][name])
        self.block.load_state_dict(state["block"])
        self._optimizer.load_state_dict(
            self._optimizer.state_dict() | {"state": copy.deepcopy(state["optimizer"])}
        )
        self.followed, self.learned = state["followed"], state["learned"]


def momentum_at(done: int, steps: int, memory: float) -> float:
    """Return what remains of the slow copy at a step.

    The papers' 0.999 in 200 000 steps remembers 1 000 of them, 1/200 of the training. It is this
    part that we keep, so that a short training does not end before its copy has moved; and its
    course: steady for a tenth of the training, then along a cosine to a thousandth of the pace.

    Args:
        done: Steps followed so far.
        steps: Of the whole training.
        memory: The part that is remembered, in (0, 1].
    """
    pace = 1 / max(FEWEST, memory * steps)
    if done < STEADY * steps:
        return 1 - pace
    fading = (1 + cos(pi * min(1, done / steps))) / 2
    return 1 - pace * (fading + (1 - fading) / FADED)


def _counted(net: nn.Module, stage: int) -> int | None:
    """Return a stage counted from the images on, or None where a net has none."""
    if not has_stages(net):
        return None
    count = stages(net).count
    # A net of one stage has none before it but the images, whose attention would be too large.
    found = stage if stage >= 0 else max(1, count + 1 + stage)
    if found > count:
        raise ConfigError(
            f"stage is {stage}, and {type(net).__name__} has stages up to {count}",
            "-1 is the last one, -2 the one before it",
        )
    return found
