"""Style consistency: an image and two views of it in the styles of others must be answered alike.

Paper: US patent application 20230177662, abstract (two views in other styles and the original share
one consistency term); Hendrycks et al. 2020, AugMix, arXiv:1912.02781, section 3, for the form and
the weight of that term.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from automix.core.errors import ConfigError
from automix.core.settings import Range
from automix.masks.method_steps import Step, StepLoss, soft_losses
from automix.masks.shapes import as_tensor
from automix.mixes import MIXES, MixInfo
from automix.mixes.amplitude_mix import InAmplitude
from automix.mixes.mixstyle import InStatistics

STYLES = ("statistics", "amplitude")
WINDOW = 0.1
"""Of the amplitude, in cycles per pixel: the default of ``amplitude_mix``."""


def check(*, style: str = STYLES[0], weight: float = 12.0) -> None:
    """Refuse settings that mean nothing.

    Raises:
        ConfigError: If there are any.
    """
    if style not in STYLES:
        raise ConfigError(f"style is {style!r}, wanted one of {', '.join(STYLES)}")
    Range(0, hint="12 is that of AugMix").check("weight", weight)


@MIXES.register("style_consistency", MixInfo(step=True, keeps_label=True, check=check))
def style_consistency(
    net: nn.Module, step: Step, *, style: str = STYLES[0], weight: float = 12.0
) -> StepLoss:
    """Train on an image and on two restyled views of it, and hold their answers together.

    What the label names is in all three, so that the net must see it through light, colours and
    contrast. Both views lie ``share`` of the way to another image's style, each to a different
    image's. One pass over three times as many images costs what three passes do.

    Formula:
        x_0 = x;   x_i = (1 - s) x + s restyled(x, partner i),   i = 1, 2
        loss = mean of CE(p_i) over i + weight JS
        JS = H(mean of p_i) - mean of H(p_i),   from 0 to ln 3 nats;   H: entropy
        restyled: as mixstyle (statistics) or amplitude_mix (amplitude) do

    Args:
        net: The classifier.
        step: The batch.
        style: "statistics" for mean and standard deviation of each channel, "amplitude" for the
            amplitude of low frequencies.
        weight: Of the divergence, 0 or more.

    Differs:
        - The patent's views come from a style network, and its loss could not be checked. Styles
          here are those of mixstyle or amplitude_mix, which need no other net.
        - The form of the term and its weight of 12 are AugMix's, which adds cross-entropy on the
          original alone; here the views are trained on, too.
        - The second partner is drawn from all others, whatever the pairing; in a batch of two it is
          the first again.
        - As in AugMix's code all views pass the net together: batch norm takes its statistics from
          the original and the views.
    """
    views = torch.cat([step.images, *restyled(step, style)])
    logs = net(views).float().log_softmax(1)
    each = soft_losses(logs, step.targets.repeat(3, 1)).unflatten(0, (3, -1))
    losses = each.mean(0) + weight * disagreement(logs.unflatten(0, (3, -1)))
    return StepLoss(losses, torch.ones(len(losses), device=losses.device), (2, 2))


def restyled(step: Step, style: str) -> tuple[Tensor, Tensor]:
    """Return the images in the styles of their partners, and of others, (b, c, h, w) each."""
    images, count = step.images, len(step.images)
    take_on = InStatistics(count) if style == STYLES[0] else InAmplitude(count, WINDOW)
    share = as_tensor(step.share, images.device).to(images)[:, None, None, None]
    second = as_tensor(second_partner(step.pairs.partner, step.rng), images.device)
    one, two = (take_on(images, images[who]) for who in (step.partner, second))
    return images.lerp(one, share), images.lerp(two, share)


def second_partner(first: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw for each image one that is neither itself nor its partner, (b,) int64.

    Args:
        first: (b,) the partners, which are returned where there are no others.
        rng: Every draw.
    """
    b = len(first)
    if b < 3:
        return first
    low, high = np.minimum(np.arange(b), first), np.maximum(np.arange(b), first)
    # Positions without the two, then with each of them put back.
    drawn = rng.integers(0, b - 2, b)
    drawn += drawn >= low
    return drawn + (drawn >= high)


def disagreement(logs: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence of v answers to each image, in nats, (b,).

    Args:
        logs: Logarithms of probabilities, (v, b, k).
    """
    mean = logs.logsumexp(0) - math.log(len(logs))
    return (logs.exp() * (logs - mean)).sum(2).mean(0)
