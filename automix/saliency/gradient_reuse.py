"""Gradient saliency whose pass over the clean images also trains.

Co-Mixup (Kim et al. 2021, arXiv:2102.03065) with ``clean_lam`` of 1, and R-Mix on ImageNet: the
gradients of the clean loss at the weights are kept and added to those of the mixed loss, so that
the loss is the sum of the two. The pass normalises by its own batch; running statistics record the
mixed pass alone, once for each image.
"""

from __future__ import annotations

from torch import Tensor

from automix.saliency import SALIENCY, Classifier, SaliencyInfo
from automix.saliency.gradient import gradient, of_gradients


@SALIENCY.register("gradient_reuse", SaliencyInfo(passes=(1, 1), from_clean_step=of_gradients))
def gradient_reuse(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
    """Map of `gradient`, from a pass whose loss trains too: clean and mixed loss are added."""
    return gradient(images, targets, classifier)
