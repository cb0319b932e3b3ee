"""Feature energy of what the classifier was lately: the moving average of its weights.

The substitute for Attentive CutMix's pretrained teacher where there is none: the average is
steadier than the classifier itself, and needs no weights from outside. It is asked for its feature
energy, not for its class activation map, so that wrong labels cannot mislead it.
"""

from __future__ import annotations

from torch import Tensor

from automix.saliency import SALIENCY, Classifier, SaliencyInfo
from automix.saliency.teacher import energy


@SALIENCY.register("ema", SaliencyInfo(passes=(1, 0), asks="average"))
def ema(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
    """Strength of the last feature map of the classifier's moving average (`trainer.model_ema`)."""
    return energy(images, classifier)
