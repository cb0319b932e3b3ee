"""SAMix: AutoMix whose Mix Block sees both images at once, and likes clear masks.

Paper: Li et al. 2021, arXiv:2111.15454, section 4.
"""

from __future__ import annotations

from functools import partial

import torch.nn as nn

from automix.masks.learned.learned_state import LearnedState, check_settings
from automix.masks.learned.mix_block import JointBlock
from automix.masks.learned.pair_step import pair_step
from automix.masks.method_steps import Step, StepLoss
from automix.mixes import MIXES, MixInfo


@MIXES.register(
    "samix",
    MixInfo(
        step=True,
        requires=("features",),
        state=partial(LearnedState, block=JointBlock),
        check=check_settings,
    ),
)
def samix(
    net: nn.Module,
    step: Step,
    *,
    stage: int = -2,
    memory: float = 0.005,
    lr: float = 0.01,
    told: bool = True,
    area: float = 0.1,
    contrast: float = 2.0,
    margin: float = 0.08,
    clean: float = 1.0,
) -> StepLoss:
    """Mix as ``automix`` does, with a block that compares both images before it asks.

    Formula:
        M = sigmoid(upsampled P v)
        P = softmax(q k' / sqrt(c / 2))      q, k: 1 x 1 convolutions of both maps, one on the
                                             other; v: two of the partner's, ReLU between them
        maps are multiplied by 1 + their share
        block:  CE(slow copy of other mixtures)
                + area (max(0, |mean M - s| - 0.1) - contrast var M)

    Args:
        net: The classifier.
        step: One batch.
        stage: As of ``automix``.
        memory: As of ``automix``.
        lr: As of ``automix``.
        told: Whether maps are multiplied by their shares.
        area: What the block pays for masks whose area is not the share, 0 or more.
        contrast: What the variance of a mask is worth to the block, in units of ``area``, 0 or
            more.
        margin: As of ``automix``.
        clean: As of ``automix``.

    Differs:
        - As ``automix`` does.
        - The block learns by the cross-entropy of AutoMix. SAMix adds a loss that asks for both
          classes and against all others, each image for itself, with a weight of its own.
        - The share that maps are multiplied by is not bent beforehand, as in the paper's runs on
          ImageNet.
        - Nothing is normalised between the two convolutions of the value, so that no mask depends
          on other images.
    """
    return pair_step(net, step, area=area, contrast=contrast, margin=margin, clean=clean)
