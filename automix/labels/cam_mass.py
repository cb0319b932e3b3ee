"""CAM mass: each label weighs what is seen of its own image, whatever the other weighs.

SnapMix (Huang et al. 2021, arXiv:2012.04846, section 3.2), whose maps are class activation maps;
here those of the action's provider.
"""

from __future__ import annotations

import torch

from automix.labels import LABEL_RULES, LabelInfo, MixRecord, Weights


@LABEL_RULES.register("cam_mass", LabelInfo(needs_maps=True))
def cam_mass(record: MixRecord) -> Weights:
    """Weigh each label by the saliency that is seen of its image; the two need not sum to 1.

    The own image keeps what the partner does not cover. What is cut away of the partner before it
    is pasted is not seen. Under uniform maps, and where maps hold no numbers, this is the area.
    Two images of one class weigh what is seen of both; the published code gives each of the two
    labels that sum, so that such pairs count twice as much as others, which nothing argues for.
    """
    areas = record.areas
    if record.own is None or record.partner is None:  # nothing is mixed
        return Weights(1 - areas, areas)
    mask = record.masks.dense(record.own.device)[:, 0]
    covered, seen = ((maps * mask).sum((1, 2)) for maps in (record.own, record.partner))
    areas = areas.to(covered.device)
    covered, seen = (
        torch.where(mass.isfinite(), mass, areas).clamp(0, 1) for mass in (covered, seen)
    )
    return Weights(1 - covered, seen)
