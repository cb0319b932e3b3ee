"""The step of mixers that mix two: teach the Mix Block, and train on what it mixes.

Liu et al. 2022, AutoMix, arXiv:2103.13027, section 3.3.
"""

from __future__ import annotations

import torch
import torch.nn as nn
from torch import Tensor

from automix.masks.learned.groups import grouped, regrouped
from automix.masks.learned.learned_state import LearnedState
from automix.masks.method_steps import Step, StepLoss, soft_losses


def pair_step(
    net: nn.Module,
    step: Step,
    *,
    area: float,
    contrast: float,
    margin: float,
    clean: float,
) -> StepLoss:
    """Return the loss of the classifier, after the Mix Block has made a step of its own.

    Args:
        net: The classifier.
        step: With a ``LearnedState``.
        area: What masks that miss their share cost the block.
        contrast: What their variance is worth to it, in units of that.
        margin: Up to which weight of either image mixup is used instead.
        clean: What the loss of the images as they are weighs.
    """
    learned: LearnedState = step.state
    images, targets = step.images, step.targets
    size, maps = images.shape[2:], learned.looked(images)[0]
    shown, tried = grouped(step), regrouped(step)
    with torch.no_grad():
        masks = learned.block(shown.of(maps), shown.weights, size)
    masks = shown.with_margin(masks, margin)

    def loss() -> Tensor:
        trial = learned.block(tried.of(maps), tried.weights, size)
        logits = learned.net(tried.mixed(images, trial))
        cost = tried.missed(trial) - contrast * contrasts(trial)
        return (soft_losses(logits, tried.targets(targets)) + area * cost).mean()

    learned.learn(loss)
    losses = soft_losses(net(shown.mixed(images, masks)), shown.targets(targets))
    if clean:
        losses = losses + clean * soft_losses(net(images), targets)
    # The slow copy looks once at the images and once at a mixture, which goes backward; the
    # classifier takes one pass more with the images as they are.
    return StepLoss(losses, masks[0].mean((1, 2, 3)), (3, 2) if clean else (2, 1))


def contrasts(masks: Tensor) -> Tensor:
    """Return the variance of each mask, (b,)."""
    return masks[1].var((1, 2, 3), correction=0)
