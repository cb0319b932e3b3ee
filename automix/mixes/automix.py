"""AutoMix: a small net learns masks whose mixtures the classifier can read.

Paper: Liu et al. 2022, arXiv:2103.13027, section 3.
"""

from __future__ import annotations

from functools import partial

import torch.nn as nn

from automix.masks.learned.learned_state import LearnedState, check_settings
from automix.masks.learned.mix_block import PairBlock
from automix.masks.learned.pair_step import pair_step
from automix.masks.method_steps import Step, StepLoss
from automix.mixes import MIXES, MixInfo


@MIXES.register(
    "automix",
    MixInfo(
        step=True,
        requires=("features",),
        state=partial(LearnedState, block=PairBlock),
        check=check_settings,
    ),
)
def automix(
    net: nn.Module,
    step: Step,
    *,
    stage: int = -2,
    memory: float = 0.005,
    lr: float = 0.01,
    told: bool = True,
    area: float = 0.1,
    margin: float = 0.08,
    clean: float = 1.0,
) -> StepLoss:
    """Let a Mix Block draw the masks, and teach it by how well a slow copy of the net reads them.

    The block asks, for each place of the image, what it finds in the partner. It learns at every
    step from mixtures of its own, which a slow copy of the classifier reads: what is good to read
    is a mask that leaves of each image what its label needs. The classifier is then trained on the
    block's mixtures, and on the images as they are.

    Formula:
        M = sigmoid(upsampled P v)
        P = softmax(q k' / sqrt(c / 2))      q: 1 x 1 convolution of the image's map; k: of its
                                             partner's; v: one channel, of its partner's
        classifier:  CE(mixed) + clean CE(image)
        block:       CE(slow copy of other mixtures) + area max(0, |mean M - s| - 0.1)
        slow copy:   m slow + (1 - m) classifier, after every step, whichever method made it

    Args:
        net: The classifier.
        step: One batch.
        stage: Which map of the slow copy the block is given: 0 are the images, -1 is the last one,
            -2 the one before it. The last one if the net cannot be cut into stages.
        memory: Part of the training that the slow copy remembers, above 0 and up to 1; at least 10
            steps. 0.005 is the paper's momentum 0.999 in its 200 000 steps. It grows a thousandfold
            along a cosine, as the paper's does.
        lr: Learning rate of the block, by Adam.
        told: Whether the block sees the shares, as one channel more of each map.
        area: What the block pays for masks whose area is not the share, 0 or more.
        margin: Up to which share of either image mixup takes the place of the block, 0 to 0.5.
        clean: What the loss of the images as they are weighs, 0 or more.

    Differs:
        - The label weighs by the share that was wanted, as in the paper, not by the mask's area.
        - The block always sees the share, which the paper does for ImageNet only: a policy
          chooses it, and it differs from image to image.
        - The block's partners are drawn anew; its shares are those of the step in another order, so
          that they follow the same law.
        - The slow copy is in evaluation mode, with statistics that follow the classifier's; in the
          official code it is in training mode. It begins when the method is first used, and so
          does the course of its memory.
        - The block has an optimizer of its own, Adam at a constant rate of 0.01. The paper's runs
          with transformers have AdamW at 0.001, too slow for training runs of some hundred steps.
    """
    return pair_step(net, step, area=area, contrast=0.0, margin=margin, clean=clean)
