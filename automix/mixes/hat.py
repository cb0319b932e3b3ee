"""HAT: train on the images and on what an adversary makes of them.

Paper: Bai et al. 2022, arXiv:2204.00993, section 3.2; the constants are those of the official code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import cast

import torch
import torch.nn as nn
from torch import Tensor

from automix.core.errors import ConfigError
from automix.core.settings import Range, within
from automix.masks.method_steps import Step, StepLoss, soft_losses
from automix.mixes import MIXES, MixInfo
from automix.nets.stacking import frozen_running_statistics

PASSES = 3
STRIDE, LIMIT = 1 / 255, 2 / 255


_check = within(
    passes=Range(2, hint="the first is over the images as they are; for none play another mix"),
    **dict.fromkeys(
        ("stride", "limit", "weight", "consistency"), Range(0, hint="leave it out for the paper's")
    ),
)


def check(*, cutoff: float = 0.0, **numbers: float) -> None:
    """Refuse settings that make no adversary.

    Raises:
        ConfigError: If there are any.
    """
    _check(**numbers)
    if not 0 <= cutoff < 1:
        raise ConfigError(
            f"cutoff is {cutoff}, wanted a part of the highest frequency, from 0 to below 1",
            "0 keeps all frequencies, as the official code does",
        )


@MIXES.register("hat", MixInfo(step=True, keeps_label=True, check=check))
def hat(
    net: nn.Module,
    step: Step,
    *,
    passes: int = PASSES,
    stride: float = STRIDE,
    limit: float = LIMIT,
    weight: float = 3.0,
    consistency: float = 0.01,
    cutoff: float = 0.0,
) -> StepLoss:
    """Move every image a little to where its loss is higher, and train on both.

    Transformers make little use of high frequencies; an adversary's changes are fine-grained, so
    that a net that withstands them has to. Labels stay. The gradients of all passes make one
    optimizer step, which costs 4 forward and 3 backward passes. It is on or off: every ratio above
    0 has the same effect.

    Formula:
        loss = l_0(x) + (l_1(x + d_1) + ... + l_n(x + d_n)) / n,   n = passes - 1
        l_0  = CE + consistency KL
        l_j  = weight CE + consistency KL
        KL   = (KL(p || q) + KL(q || p)) / 2, p: of this pass, q: of a clean pass without gradient
        d_0 = 0,   d_j+1 = clip(d_j + stride sign(gradient of l_j at x + d_j), -limit, limit)

    Args:
        net: The classifier.
        step: The batch.
        passes: Of which gradients are taken, 2 or more, the first of them over clean images. There
            is one more forward pass.
        stride: How far each pixel moves between two passes, in the units of the images.
        limit: How far it may move in all.
        weight: Of the loss on moved images.
        consistency: Weight of the divergence from the clean answer.
        cutoff: Frequencies of d that are kept lie above this part of the highest one along a side,
            below 1. 0 keeps all, the mean too.

    Differs:
        - In spite of its name the official code has no filter of frequencies, and neither has ours
          by default. With a ``cutoff`` gradients are filtered before their sign is taken, and d
          after it is clipped; where that takes it out of bounds, the whole d is made smaller.
        - As in the official code, pixels are moved as they are normalised, and may leave the range
          of colours.
        - The paper moves images that mixup or CutMix has mixed, and stops after two thirds of the
          epochs. Here an epoch uses one method, and when is up to the policy.
        - Batch norm, which the paper's nets have not, takes its running statistics from the clean
          images of the first pass alone. Dropout draws anew in each pass, as in the official code.
    """
    frozen = frozen_running_statistics
    with torch.no_grad(), frozen(net):
        clean = net(step.images).float().log_softmax(1)

    def losses_of(images: Tensor, number: int) -> Tensor:
        with frozen(net) if number else nullcontext():
            logits = net(images).float()
        divergent = consistency * divergence(logits.log_softmax(1), clean)
        if number == 0:
            return soft_losses(logits, step.targets) + divergent
        return (weight * soft_losses(logits, step.targets) + divergent) / (passes - 1)

    weights = [one for one in net.parameters() if one.requires_grad]
    owed: dict[int, Tensor] = {}
    moved, total = torch.zeros_like(step.images), torch.zeros(len(clean), device=clean.device)
    for number in range(passes - 1):
        images = (step.images + moved).requires_grad_()
        losses = losses_of(images, number)
        # The gradients at the weights come with those at the images: no pass goes back twice, and
        # only one pass is kept in memory.
        gradient, *found = torch.autograd.grad(losses.mean(), [images, *weights], allow_unused=True)
        add(owed, cast(list[Tensor | None], found))
        moved, total = climbed(moved, gradient, stride, limit, cutoff), total + losses.detach()
    total = total + losses_of(step.images + moved, passes - 1)
    whole = torch.ones(len(total), device=total.device)
    return StepLoss(total + carried(weights, owed), whole, (passes, passes - 1))


def divergence(logs: Tensor, clean: Tensor) -> Tensor:
    """Return the mean of both KL divergences between answers (b, k), in nats, (b,).

    Args:
        logs: Logarithms of probabilities.
        clean: The same of what they are compared with.
    """
    return ((logs.exp() - clean.exp()) * (logs - clean)).sum(1) / 2


def climbed(moved: Tensor, gradient: Tensor, stride: float, limit: float, cutoff: float) -> Tensor:
    """Return a perturbation (b, c, h, w) after one stride up the gradient, within its limit.

    Args:
        moved: What it has been.
        gradient: Of the loss, (b, c, h, w).
        stride: In the units of the images.
        limit: The largest absolute value.
        cutoff: Frequencies at or below this part of the highest are left out; 0 leaves out none.
    """
    if cutoff == 0:
        return (moved + stride * gradient.sign()).clamp(-limit, limit)
    wanted = moved + stride * high_frequencies(gradient, cutoff).sign()
    high = high_frequencies(wanted.clamp(-limit, limit), cutoff)
    # Another clip would bring low frequencies back.
    largest = high.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12)
    return high * (limit / largest).clamp(max=1)


def high_frequencies(images: Tensor, cutoff: float) -> Tensor:
    """Return what lies above a part of the highest frequency along one side or both, (b, c, h, w).

    The highest is half a cycle per pixel.
    """
    h, w = size = images.shape[2:]
    rows = torch.fft.fftfreq(h, device=images.device).abs() > cutoff / 2
    columns = torch.fft.rfftfreq(w, device=images.device) > cutoff / 2
    return torch.fft.irfft2(torch.fft.rfft2(images) * (rows[:, None] | columns), size)


def add(owed: dict[int, Tensor], found: list[Tensor | None]) -> None:
    """Add gradients to those owed so far, by the number of their weight; unused ones have none.

    ``found`` is emptied on the way, so that no third copy of all gradients is kept.
    """
    while found:
        one = found.pop()
        at = len(found)
        if one is not None:
            # Not in place: autograd may give the same tensor to two weights.
            owed[at] = owed[at] + one if at in owed else one


def carried(weights: Sequence[Tensor], gradients: Mapping[int, Tensor]) -> Tensor:
    """Return a zero, (), whose gradients at the weights are the given ones."""
    total = torch.stack([(weights[at] * gradient).sum() for at, gradient in gradients.items()])
    return (total - total.detach()).sum()
