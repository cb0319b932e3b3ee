"""Feature energy of a trained net: where its last feature map is strong, whatever the class.

Attentive CutMix (Walawalkar et al. 2020, arXiv:2003.13048, section 2) averages the channels of a
pretrained ResNet-50. We take their root mean square, which orders places much alike where features
are positive, and means something where they are not (transformers, ConvNeXt). The teacher sees the
images as the classifier does, in the task's colours and size, in evaluation mode.
"""

from __future__ import annotations

from torch import Tensor

from automix.saliency import SALIENCY, Classifier, SaliencyInfo, enlarged, normalised, staged


def energy(images: Tensor, classifier: Classifier) -> Tensor:
    """Return maps (b, h, w): the root mean square over channels of the last feature map."""
    features = staged(classifier).features(images.detach()).float()
    maps = features.square().mean(1).sqrt()
    return normalised(enlarged(maps, (images.shape[2], images.shape[3])))


@SALIENCY.register("teacher", SaliencyInfo(passes=(1, 0), asks="teacher"))
def teacher(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
    """Strength of the last feature map of a trained net (`trainer.teacher`)."""
    return energy(images, classifier)
