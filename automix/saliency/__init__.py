"""Saliency providers, one file each: which pixels carry the content.

A provider has the signature::

    provider(images, targets, classifier) -> Tensor

    images      (b, c, h, w) float, not modified
    targets     (b, k) class probabilities
    classifier  images -> (b, k) logits; running statistics stay untouched while it is called
    returns     (b, h, w) float32, non-negative, sums to 1 for each image

The tag ``passes`` says how many forward and backward passes over the samples it costs, and
``needs_classifier`` whether the map changes as the classifier learns. A provider that can be read
off a training step has the tag ``from_step``: slopes of the loss at the images, (b, c, h, w), to
maps (b, h, w).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from automix.registry import Registry

Classifier = Callable[[Tensor], Tensor]
Provider = Callable[[Tensor, Tensor, Classifier], Tensor]
ReadOff = Callable[[Tensor], Tensor]

SALIENCY: Registry[Provider] = Registry("saliency provider", __name__)


def normalised(saliency: Tensor) -> Tensor:
    """Scale each map, (b, h, w), to sum to 1; a map of zeros becomes uniform."""
    saliency = torch.nan_to_num(saliency.float(), nan=0.0, posinf=0.0, neginf=0.0)
    # By the peak first: slopes of a sure classifier come near the smallest float32, those of a
    # diverging one near the largest, and neither sum can be divided by.
    saliency = saliency / saliency.amax((1, 2), keepdim=True)
    total = saliency.sum((1, 2), keepdim=True)
    uniform = 1.0 / (saliency.shape[1] * saliency.shape[2])
    return torch.where(total > 0, saliency / total, uniform)
