"""Manifold Mixup: mix what the net makes of the images halfway.

Paper: Verma et al. 2019, arXiv:1806.05236, section 2.
"""

from __future__ import annotations

import torch
import torch.nn as nn
from torch import Tensor

from automix.core.errors import ConfigError
from automix.masks.method_steps import Step, StepLoss, soft_losses
from automix.masks.shapes import as_tensor
from automix.mixes import MIXES, MixInfo
from automix.nets.stages import stages as stages_of


def _check(*, stages: tuple[int, ...]) -> None:
    if not stages or min(stages) < 0:
        raise ConfigError(
            f"manifold_mixup.stages is {list(stages)}, wanted one or more whole numbers from 0 up",
            "0 are the images, 1 is the net's first stage, for example [0,1,2]",
        )


@MIXES.register("manifold_mixup", MixInfo(step=True, requires=("stages",), check=_check))
def manifold_mixup(net: nn.Module, step: Step, *, stages: tuple[int, ...] = (0, 1, 2)) -> StepLoss:
    """Blend features with one weight, at a stage drawn for each batch, and their labels alike.

    Images of two classes then differ in few directions of these features, and what lies between
    them is classified with less certainty. Batch norm behind the stage sees mixed features only.

    Formula:
        h = (1 - M) own + M partner, of features at a stage of the net
        M = s
        stage: uniform over the stages, 0 being the images

    Args:
        net: The classifier.
        step: The batch.
        stages: What the stage is drawn from, whole numbers from 0 up; a net with fewer stages
            takes its last one for those that it has not. Three stages of a residual net are its
            input and the ends of its first two groups of blocks, as in the official code; of a
            vision transformer its input and the ends of the first and second third of its blocks.

    Differs:
        - Each image has its own share, where the paper has one for each batch.
    """
    staged = stages_of(net)
    stage = min(stages[int(step.rng.integers(len(stages)))], staged.count)
    features = blended(staged.forward_to(stage, step.images), step)
    losses = soft_losses(staged.forward_from(stage, features), step.mixed_targets(step.own_share))
    return StepLoss(losses, step.own_share)


def blended(features: Tensor, step: Step) -> Tensor:
    """Return the features (b, ...) of a batch with ``share`` of the partner's in each."""
    share = as_tensor(step.share, features.device).to(features.dtype)
    partner = features.index_select(0, step.partner)
    return torch.lerp(features, partner, share.view(-1, *[1] * (features.dim() - 1)))
