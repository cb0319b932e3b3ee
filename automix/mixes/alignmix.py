"""AlignMix: mix features place by place, once each place has met those that are like it.

Paper: Venkataramanan et al. 2022, "AlignMixup: Improving Representations by Interpolating Aligned
Features", arXiv:2103.15375, section 3.
"""

from __future__ import annotations

from math import log

import torch
import torch.nn as nn
from torch import Tensor

from automix.core.settings import Range, within
from automix.masks.method_steps import Step, StepLoss, soft_losses
from automix.masks.shapes import as_tensor
from automix.mixes import MIXES, MixInfo
from automix.mixes.manifold_mixup import blended
from automix.nets.feature_maps import as_map
from automix.nets.stages import stages

ROUNDS = 100
"""Most rounds of Sinkhorn's."""

STOP = 0.1
"""They end when they move the prices of an image's places by less than this, summed up."""

LOOK = 10
"""Rounds from one look at that to the next: a look makes the host wait for the device."""


@MIXES.register(
    "alignmix",
    MixInfo(step=True, requires=("stages",), check=within(aligned=Range(0, 1), eps=Range(above=0))),
)
def alignmix(net: nn.Module, step: Step, *, aligned: float = 0.5, eps: float = 0.1) -> StepLoss:
    """Blend the last feature maps, one of them rearranged to lie on the other; or the images.

    A coin for each batch chooses between this and Mixup of the images. Where features are mixed,
    another coin says which of the two is rearranged: each of its places becomes a mean of those
    that an optimal transport plan sends there. The blend so has the pose of one and the texture of
    both. No gradient goes through the plan.

    Formula:
        h = (1 - M) own + M P partner,  or  (1 - M) P' own + M partner
        M = s
        P = n plan, with its rows scaled to 1; P' likewise with its columns
        plan minimises  sum plan d + eps sum plan log plan,  with equal rows and equal columns
        d: squared distance of the features at two places; n: places of the map

    Args:
        net: The classifier.
        step: The batch.
        aligned: Share of batches whose features are mixed, in [0, 1]; of the others the images are.
        eps: How soft the plan is, in units of d, above 0.

    Differs:
        - Each image has its own share, where the paper has one for each batch, from Beta(2, 2):
          set trainer.mix.concentration=4 for that law.
        - Rounds of the plan end, as in the official code, before its rows and columns are quite
          equal; what is left over is divided out here, so that rearranged features are means.
        - Whether the rounds may end is looked at every tenth time.
        - A class token, which is of no place, is mixed as it is.
    """
    own = step.own_share
    if step.rng.random() >= aligned:
        logits = net(blended(step.images, step))
    else:
        staged = stages(net)
        found = staged.forward_to(staged.count, step.images)
        logits = staged.forward_from(staged.count, _mixed(net, found, step, eps))
    return StepLoss(soft_losses(logits, step.mixed_targets(own)), own)


def _mixed(net: nn.Module, found: Tensor, step: Step, eps: float) -> Tensor:
    """Return the net's features of a batch mixed, as the net has them."""
    own = as_map(net, found, step.images)[0]
    _, back = as_map(net, blended(found, step), step.images)
    mine = own.flatten(2).float()
    theirs = mine.index_select(0, step.partner)
    share = as_tensor(step.share, found.device)[:, None, None]
    with torch.autocast(found.device.type, enabled=False):
        with torch.no_grad():
            plan = log_plan(distances(mine, theirs), eps)
        if step.rng.random() < 0.5:
            mixed = torch.lerp(mine, theirs @ plan.softmax(2).mT, share)
        else:
            mixed = torch.lerp(mine @ plan.softmax(1), theirs, share)
    return back(mixed.view(own.shape).to(found.dtype))


def distances(own: Tensor, partner: Tensor) -> Tensor:
    """Return the squared distances (u, n, m) of features (u, c, n) and (u, c, m)."""
    # Not by products: equal features must be at distance 0, and ``eps`` is small beside a product.
    mode = "donot_use_mm_for_euclid_dist"
    return torch.cdist(own.mT.contiguous(), partner.mT.contiguous(), compute_mode=mode).square()


def log_plan(cost: Tensor, eps: float) -> Tensor:
    """Return the logarithm of transport plans, (u, n, m), by Sinkhorn's rounds.

    Columns of a plan sum to 1 / m; rows to 1 / n, where the rounds came to their end.

    Args:
        cost: (u, n, m) float32, 0 or more.
        eps: What evenness of the plan weighs, in units of the cost, above 0.
    """
    u, n, m = cost.shape
    rows, columns = cost.new_zeros(u, n, 1), cost.new_zeros(u, 1, m)
    for number in range(1, ROUNDS + 1):
        before = rows
        rows = -eps * (((columns - cost) / eps).logsumexp(2, keepdim=True) + log(n))
        columns = -eps * (((rows - cost) / eps).logsumexp(1, keepdim=True) + log(m))
        if number % LOOK == 0 and bool((rows - before).abs().sum((1, 2)).mean() < STOP):
            break
    return (rows + columns - cost) / eps
