"""Make a training step under any action: a batch that is mixed, or a method's own step."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from automix.core.errors import ConfigError
from automix.core.seeding import derived_seed
from automix.masks.method_steps import (
    MethodState,
    Setup,
    Step,
    StepFunction,
    StepLoss,
    soft_losses,
)
from automix.masks.pairing import pair_batches
from automix.mixes import MIXES
from automix.mixing.actions import OFF, MixAction
from automix.mixing.batch import DEFAULTS, Mixed, MixSettings, draw_share, mix_batch, saliency_of
from automix.mixing.checks import check_images, checked_labels
from automix.mixing.modes import uncompiled
from automix.mixing.options import configured, options_of, parameters_of
from automix.mixing.targets import as_targets


def makes_steps(action: MixAction) -> bool:
    """Return whether an action's method makes training steps of its own."""
    return action.mixes and MIXES.info(action.method).step


def keeps_state(action: MixAction) -> bool:
    """Return whether an action's method keeps something from step to step."""
    return makes_steps(action) and MIXES.info(action.method).state is not None


def drawn_step(
    images: Tensor,
    targets: Tensor,
    action: MixAction,
    rng: np.random.Generator,
    settings: MixSettings = DEFAULTS,
    maps: Tensor | None = None,
) -> Step:
    """Draw the pairs and how much of the partner is wanted, for one batch.

    A batch that the mix probability leaves as it is has shares of 0.
    """
    pairs = pair_batches(len(images), len(images), settings.pairing, rng)
    u = 1 if settings.share_per == "batch" else len(images)
    share = pairs.each(draw_share(action.ratio, u, rng, settings.concentration))
    if settings.mix_probability * action.mix_probability < 1:
        mixes = rng.random() < settings.mix_probability * action.mix_probability
        share = share * np.float32(mixes)
    pixels = images if images.is_floating_point() else images.float()
    return Step(pixels, targets, share, action.ratio, pairs, rng, maps)


def step_loss(
    net: nn.Module,
    step: Step,
    action: MixAction,
    settings: MixSettings = DEFAULTS,
) -> StepLoss:
    """Call a method that makes its own steps; a batch that is not to be mixed is trained on."""
    if not step.share.any():
        whole = torch.ones(len(step.images), device=step.images.device)
        return StepLoss(soft_losses(net(step.images), step.targets), whole)
    method = cast(StepFunction, configured(action.method, tuple(settings.options)))
    return method(net, step)


def new_state(
    net: nn.Module,
    method: str,
    *,
    classes: int,
    shape: tuple[int, int, int],
    steps: int,
    seed: int,
    settings: MixSettings = DEFAULTS,
) -> MethodState:
    """Make what a method keeps from step to step.

    Args:
        net: A copy of the classifier as it is now, which the state may keep.
        method: One that states ``state``.
        classes: k.
        shape: (c, h, w) of the images.
        steps: Optimizer steps of the whole training run.
        seed: Draws what begins at random.
        settings: Whose options may name the method.
    """
    make = MIXES.info(method).state
    assert make is not None, method
    given = {**parameters_of(method), **options_of(settings.options).get(method, {})}
    device = next(net.parameters()).device
    own = derived_seed(seed, "method", method)
    return make(Setup(net, shape, classes, own, steps, device, given))


def answered(net: nn.Module, mixed: Mixed) -> tuple[Tensor, Tensor]:
    """Return the logits (b, k) of a mixed batch, and its targets (b, k), with the net's say."""
    if mixed.revised is None:
        return net(mixed.images), mixed.targets
    return mixed.revised.asked(net, mixed.images, slice(None))


@uncompiled
def loss_of(
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    action: MixAction,
    *,
    num_classes: int,
    rng: np.random.Generator,
    settings: MixSettings = DEFAULTS,
    saliency: Tensor | None = None,
    state: MethodState | None = None,
) -> StepLoss:
    """Return the loss of one batch under any action, for a training loop of your own.

    For example::

        loss = loss_of(net, images, labels, action, num_classes=10, rng=rng).losses.mean()
        loss.backward()

    Args:
        net: The classifier in training mode, images (b, c, h, w) to logits (b, k).
        images: (b, c, h, w) float, not modified.
        labels: (b,) or (b, 1) int classes, or (b, k) class probabilities.
        action: What to do.
        num_classes: k.
        rng: Every draw comes from here.
        settings: How the action is carried out.
        saliency: (b, h, w) maps that sum to 1; computed if the action needs them and none are
            given.
        state: What ``new_state`` made, for methods that keep one; call its ``follow`` after every
            optimizer step.

    Raises:
        ConfigError: As ``mix_batch``; or if the method keeps a state, and none is given.
    """
    if keeps_state(action) and state is None:
        raise ConfigError(
            f"{action.method} keeps something from step to step, and no state is given",
            "make one before the first step by automix.mixing.loss.new_state, pass it as "
            "state=..., and call its follow(net.state_dict()) after every optimizer step",
        )
    if not makes_steps(action):
        mixed = mix_batch(
            *(images, labels, action),
            num_classes=num_classes,
            rng=rng,
            saliency=saliency,
            classifier=net,
            settings=settings,
        )
        return StepLoss(soft_losses(*answered(net, mixed)), mixed.own_share)
    check_images(images)
    targets = as_targets(checked_labels(labels, len(images), num_classes), num_classes)
    if action.saliency != OFF and saliency is None:
        saliency = saliency_of(action, images, targets, net)
    step = drawn_step(images, targets, action, rng, settings, saliency)
    return step_loss(net, replace(step, state=state), action, settings)
