"""Attention: the label says what the classifier attends to.

TransMix (Chen et al. 2022, arXiv:2111.09833, section 3).
"""

from __future__ import annotations

import torch.nn as nn
from torch import Tensor

from automix.core.settings import Range
from automix.labels import LABEL_RULES, LabelInfo, MixRecord, Weights, watched_weights
from automix.nets.attention import attended, token_masks


@LABEL_RULES.register("attention", LabelInfo(requires=("attention",)))
def attention(record: MixRecord, *, strength: float = 0.5) -> Weights:
    """Move the area label towards the share of attention that falls on each image.

    ``(1 - strength) * area + strength * attended``, where the class token of the last block looks,
    mean over heads; in a net that has none, where the tokens look on average. The mask is brought
    to the grid of the tokens by the nearest pixel. The attention is that of the step itself, so it
    costs no pass, and no gradient goes through it. Where nobody watches the classifier this is the
    area, as under attention that is the same everywhere, and for masks that are constant. An image
    that shows only one of the two keeps its label.

    Args:
        record: What the images show.
        strength: How much attention has to say, in [0, 1]; a half as in the paper's code.
    """
    Range(0, 1).check("attention.strength", strength)
    return watched_weights(record, partner_attended, strength)


def partner_attended(net: nn.Module, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits (b, k) and the share of attention on the partner, (b,); a ``Watch``."""
    logits, maps = attended(net, images, "class")
    return logits, (maps * token_masks(net, images, masks)).sum((1, 2))
