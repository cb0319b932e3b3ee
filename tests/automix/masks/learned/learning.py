"""What tests of learned mixers share: a net, a batch, a state, and somebody who looks on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from automix.core.seeding import generator
from automix.masks.learned.groups import grouped
from automix.masks.learned.learned_state import LearnedState
from automix.masks.method_steps import Step
from automix.masks.pairing import Pairs, derange
from automix.mixing.batch import MixSettings
from automix.mixing.loss import new_state
from automix.nets.create import create_classifier
from tests.automix.mixes.drawing import noise
from tests.automix.training.helpers import digits

METHODS = ["automix", "samix", "adautomix"]
SHAPE, CLASSES = (1, 8, 8), 6


def classifier(shape=SHAPE, seed=0) -> nn.Module:
    net = create_classifier("small_cnn_w8", num_classes=CLASSES, shape=shape, seed=seed)
    return net.train()


def fresh(method: str, net: nn.Module, shape=SHAPE, **options) -> LearnedState:
    """Return what a method keeps for a net."""
    words = tuple(f"{method}.{name}={value}" for name, value in options.items())
    return new_state(
        copy.deepcopy(net),
        method,
        classes=CLASSES,
        shape=shape,
        steps=1000,
        seed=0,
        settings=MixSettings(options=words),
    )


def begun(method: str, net: nn.Module, shape=SHAPE, **options) -> LearnedState:
    """Return a state whose masks say something at once, unlike those of a new one."""
    state = fresh(method, net, shape, **options)
    for i, weight in enumerate(state.block.parameters()):
        weight.data.copy_(5 * noise(i, *weight.shape))
    return state


def step_of(state: LearnedState, share=0.5, b=CLASSES, shape=SHAPE, seed=0) -> Step:
    """Return a batch whose image i has the class i; shares are one number or one for each."""
    rng = generator(seed, "step")
    shares = np.full(b, share, np.float32) if np.isscalar(share) else np.float32(share)
    pairs = Pairs(derange(b, rng), b, neighbours=False)
    targets = torch.eye(CLASSES)[torch.arange(b) % CLASSES]
    return Step(noise(seed, b, *shape), targets, shares, 0.5, pairs, rng, state=state)


class Onlooker(nn.Module):
    """A net, and the images that it was shown."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.shown = net, []

    def forward(self, images: Tensor) -> Tensor:
        self.shown.append(images)
        return self.net(images)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Of each image in nats, (b,), written by hand."""
    return -(targets * logits.log_softmax(1)).sum(1)


def gradients(state: LearnedState, play: Callable[[], object]) -> dict[str, Tensor]:
    """Return the slopes that a block follows when a step is played: it is made to follow them."""
    state._optimizer = torch.optim.SGD(state.block.parameters(), lr=1.0)
    before = {name: value.detach().clone() for name, value in state.block.named_parameters()}
    play()
    return {name: before[name] - value.detach() for name, value in state.block.named_parameters()}


def slopes_by_hand(state: LearnedState, loss: Callable[[nn.Module], Tensor]) -> dict[str, Tensor]:
    """Return the slopes of ``loss(block)`` at a block's weights."""
    block = copy.deepcopy(state.block)
    loss(block).backward()
    return {name: value.grad for name, value in block.named_parameters()}


def maps_of(net: nn.Module, images: Tensor) -> Tensor:
    """The map of a small convolutional net before its last one: two blocks of three layers."""
    with torch.no_grad():
        return copy.deepcopy(net).eval().features[:6](images)


# Learning -----------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def taught() -> tuple[nn.Module, Tensor, Tensor]:
    """Return a net that has learned some digits, and those: images and targets."""
    task = digits(300)
    images = task.split(task.train_index, torch.device("cpu"))[torch.arange(300)]
    labels = torch.from_numpy(task.train_labels)
    net = create_classifier("small_cnn_w8", num_classes=10, shape=SHAPE, seed=0).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
    return net, images, torch.eye(10)[labels]


def lesson(state: LearnedState, seed: int, b: int = 64) -> Step:
    """Return a batch of these digits."""
    _, images, targets = taught()
    rng = generator(seed, "lesson")
    rows = torch.from_numpy(rng.permutation(300)[:b])
    share = rng.beta(2, 2, b).astype(np.float32)
    pairs = Pairs(derange(b, rng), b, neighbours=False)
    return Step(images[rows], targets[rows], share, 0.5, pairs, rng, state=state)


@torch.no_grad()
def read(state: LearnedState, three: bool = False) -> tuple[float, float]:
    """Return how badly a slow copy reads what a block mixes, in nats, and how masks differ."""
    step = lesson(state, seed=1000, b=200)
    group, maps = grouped(step, three=three), state.looked(step.images)[0]
    masks = state.block(group.of(maps), group.weights, (8, 8))
    logits = state.net(group.mixed(step.images, masks))
    losses = nn.functional.cross_entropy(logits, group.targets(step.targets))
    return float(losses), float(masks.std())
