"""AdAutoMix: a Mix Block mixes three images, and every other step makes them hard to read.

Paper: Qin et al. 2024, arXiv:2312.11954, section 3.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from automix.masks.learned.groups import grouped, regrouped
from automix.masks.learned.learned_state import LearnedState, check_settings
from automix.masks.learned.mix_block import CrowdBlock
from automix.masks.method_steps import Step, StepLoss, soft_losses
from automix.mixes import MIXES, MixInfo


@MIXES.register(
    "adautomix",
    MixInfo(
        step=True,
        requires=("features",),
        state=partial(LearnedState, block=CrowdBlock),
        check=check_settings,
    ),
)
def adautomix(
    net: nn.Module,
    step: Step,
    *,
    stage: int = -2,
    memory: float = 0.005,
    lr: float = 0.01,
    told: bool = True,
    area: float = 0.1,
    margin: float = 0.03,
    every: int = 2,
    hardness: float = 0.3,
    similarity: float = 0.7,
    clean: float = 0.5,
    plain: float = 0.5,
) -> StepLoss:
    """Mix each image with two others under masks that a Mix Block draws, now well, now badly.

    A block that only helps the classifier makes mixtures that are all alike. Here every other step
    makes the block draw what the slow copy of the classifier reads badly, and those between what it
    reads well. The classifier is trained on the block's mixtures, on the images as they are, and on
    the same three images plainly blended.

    Formula:
        M_i = softmax over the three images of (upsampled P_i v_i)
        P_i = softmax(q_i (sum over the others of k)' / sqrt(c / 2))
        classifier:  CE(mixed) + clean CE(image) + plain CE(sum of weight x image)
        block:       -hardness CE + similarity sum of weight x cosine(logits mixed, logits image)
                     at every second step of its own, else CE, by the slow copy; and in both
                     area sum of max(0, |mean M_i - weight| - 0.1) / 2
        weights: 1 - s for the image, s u and s (1 - u) for its partners, u uniform

    Args:
        net: The classifier.
        step: One batch.
        stage: As of ``automix``.
        memory: As of ``automix``.
        lr: As of ``automix``.
        told: Whether the block sees the weights, as one channel more of each map.
        area: What the block pays, adversary or not, for masks whose areas are not the weights, 0
            or more.
        margin: Up to which weight of the image, or of both partners, they are plainly blended; 0 to
            0.5.
        every: At each how manieth step the block is the adversary, 1 or more.
        hardness: What the cross-entropy is worth to it then, 0 or more.
        similarity: What it pays then for logits that point where those of the images do; below 0
            is a reward.
        clean: What the loss of the images as they are weighs, 0 or more.
        plain: What the loss of plain blends weighs, 0 or more.

    Differs:
        - The official code puts plain blends in the place of its masks of three in nearly every
          batch, by the condition that was to be the margin. Here the masks are what is shown.
        - The paper wants the cosine to keep what images mean; in its code, and so here, it makes
          the block turn the logits away. A ``similarity`` below 0 does what the text says.
        - The image itself is always one of the three; its second partner may be its first again.
        - The paper's block pays nothing for its areas. Here it does as in AutoMix, so that a ratio
          means something.
        - As ``automix`` does.
    """
    learned: LearnedState = step.state
    images, targets = step.images, step.targets
    size, (maps, go_on) = images.shape[2:], learned.looked(images)
    shown, tried = grouped(step, three=True), regrouped(step, three=True)
    with torch.no_grad():
        masks, seen = learned.block(shown.of(maps), shown.weights, size), go_on()
    masks = shown.with_margin(masks, margin)
    adversary = learned.learned % every == 0

    def loss() -> Tensor:
        trial = learned.block(tried.of(maps), tried.weights, size)
        logits = learned.net(tried.mixed(images, trial)).float()
        losses = soft_losses(logits, tried.targets(targets))
        if adversary:
            alike = F.cosine_similarity(logits, tried.of(seen.float()), -1)
            losses = similarity * (tried.weights * alike).sum(0) - hardness * losses
        return (losses + area * tried.missed(trial)).mean()

    learned.learn(loss)
    wanted = shown.targets(targets)
    losses = soft_losses(net(shown.mixed(images, masks)), wanted)
    if clean:
        losses = losses + clean * soft_losses(net(images), targets)
    if plain:
        losses = losses + plain * soft_losses(net(shown.mixed(images, shown.plain())), wanted)
    more = bool(clean) + bool(plain)
    return StepLoss(losses, masks[0].mean((1, 2, 3)), (2 + more, 1 + more))
