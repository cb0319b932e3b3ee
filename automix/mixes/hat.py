"""HAT: train on the image and on what an adversary makes of it.

Paper: Bai et al. 2022, arXiv:2204.00993, section 3.2
"""

from __future__ import annotations

import torch
import torch.nn as nn

from automix.mixes import MIXES
from automix.steps import Step, StepLoss, soft_losses


@MIXES.register("hat", step=True, keeps_label=True)
def hat(net: nn.Module, step: Step) -> StepLoss:
    """Add what moves the loss up to the image, and train on both.

    To be written: so far one plain pass.
    """
    return StepLoss(soft_losses(net(step.images), step.targets), torch.ones(len(step.images)))
