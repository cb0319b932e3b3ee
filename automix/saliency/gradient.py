"""Gradient saliency: where the loss would change most.

Definition as in PuzzleMix (Kim et al. 2020, arXiv:2009.06962, section 4.1) and R-Mix.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from automix.core.errors import ConfigError
from automix.saliency import SALIENCY, Classifier, SaliencyInfo, normalised


def of_gradients(gradients: Tensor) -> Tensor:
    """Turn gradients of the loss, (b, c, h, w), into maps: the root mean square over channels."""
    # Saliency is data, not part of the loss: its gradient would train the net to look salient.
    return normalised(gradients.detach().float().square().mean(1).sqrt())


@SALIENCY.register("gradient", SaliencyInfo(passes=(1, 1), from_step=of_gradients))
def gradient(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
    """Root mean square over channels of the loss gradient at each pixel of the clean image."""
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        logits = classifier(images)
        if not isinstance(logits, Tensor) or logits.shape != targets.shape:
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ConfigError(
                f"the classifier gives {got}, wanted logits {tuple(targets.shape)}",
                "pass what gives them, for example classifier=lambda images: model(images).logits",
            )
        loss = F.cross_entropy(logits, targets, reduction="sum")
        (gradients,) = torch.autograd.grad(loss, images)
    return of_gradients(gradients)
