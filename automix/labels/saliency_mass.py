"""Saliency mass: the label says how much of each image's salient content is visible.

Saliency Grafting (Park et al. 2022, arXiv:2112.08796). No code is public; that saliency decides
the label is what the abstract says, the norm is from memory.
"""

from __future__ import annotations

import torch

from automix.core.settings import Range
from automix.labels import LABEL_RULES, LabelInfo, MixRecord
from automix.masks.shapes import Array


@LABEL_RULES.register("saliency_mass", LabelInfo(needs_maps=True))
def saliency_mass(record: MixRecord, *, norm: float = 1.0) -> Array:
    """Weigh the own label by its share of the saliency that is seen of both images.

    Maps are taken as they lie on the mixed image. Under uniform maps this is the rule "area", for
    any mask. Where nothing salient is seen of either image, it is the area.

    Args:
        record: What the images show.
        norm: How saliency is added up, 1 or more. 1 adds it; 2, the Euclidean norm that the paper
            is remembered to have, would give an image of which a quarter is covered by a box
            0.63 instead of 0.75 under uniform maps.
    """
    Range(1).check("saliency_mass.norm", norm)
    if record.own is None or record.partner is None:  # nothing is mixed
        return 1 - record.area
    mask = record.masks.dense(record.own.device)[:, 0]
    own, partner = (
        torch.linalg.vector_norm(seen, norm, (1, 2))
        for seen in (record.own * (1 - mask), record.partner * mask)
    )
    total = own + partner
    # No number is not above 0 either.
    return torch.where(total > 0, own / total, 1 - record.areas.to(total.device))
