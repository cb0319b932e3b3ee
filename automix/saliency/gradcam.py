"""Grad-CAM: class activation maps of which only what speaks for the class is kept.

Selvaraju et al. 2017, arXiv:1610.02391, equations 1 and 2. The gradients are those at the last
feature map, so that they pass the head only. Where nothing speaks for the class, the map is
uniform.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automix.saliency import SALIENCY, Classifier, SaliencyInfo, enlarged, normalised
from automix.saliency.cam import activation_maps


@SALIENCY.register("gradcam", SaliencyInfo(passes=(1, 0)))
def gradcam(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
    """Grad-CAM: last feature map weighed by the class, what speaks against it set to zero."""
    maps = torch.relu(activation_maps(images, targets, classifier))
    return normalised(enlarged(maps, (images.shape[2], images.shape[3])))
