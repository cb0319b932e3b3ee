"""Visibility: the less is seen of an image, the less sure its label is.

Soft Augmentation (Liu et al. 2023, arXiv:2211.04625, section 3), which crops single images; here
for whatever erases or covers.
"""

from __future__ import annotations

import numpy as np
import torch

from automix.core.settings import Range
from automix.labels import LABEL_RULES, LabelInfo, MixRecord, Weights


@LABEL_RULES.register("visibility", LabelInfo(erasures=True))
def visibility(record: MixRecord, *, power: float = 4.0) -> Weights:
    """Soften each label by how much of its image is seen.

    A label of which the fraction v is seen has the probability ``1 - (1 - 1/K) (1 - v)^power`` of K
    classes, and the others share the rest: the label itself where all is seen, chance where
    nothing is. That is the label with the weight ``1 - (1 - v)^power`` beside a level row of all
    classes, so the rule need not know K. Of two images each counts, softened so, by the share that
    it shows; where something is erased or restyled there is one.

    Args:
        record: What the images show.
        power: How much may be hidden before it matters, above 0; 4 as in the paper's code.
    """
    Range(above=0).check("visibility.power", power)
    hidden = record.areas
    partner = torch.zeros_like(hidden)
    if not record.keeps_label:
        # An image that is mixed with itself is seen whole.
        apart = torch.from_numpy(record.pairs.partner != np.arange(len(hidden)))
        partner = hidden = hidden * apart.to(hidden.device, non_blocking=True)
    own = 1 - partner
    blur = own * hidden**power, partner * (1 - hidden) ** power
    return Weights(own - blur[0], partner - blur[1], blur)
