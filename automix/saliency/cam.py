"""Class activation maps: where the last feature map speaks for the image's class.

Zhou et al. 2016, arXiv:1512.04150, section 2, in the form of SnapMix (Huang et al. 2021,
arXiv:2012.04846, section 3.1): enlarged, the least value subtracted, summing to 1. The weight of a
channel is the mean gradient of the score, which is the layer's own weight (divided by the places)
behind global average pooling, and works for other heads too. Soft labels weigh the scores of their
classes. SnapMix adds the layer's bias, which the subtraction takes away again.
"""

from __future__ import annotations

from torch import Tensor

from automix.saliency import SALIENCY, Classifier, SaliencyInfo, enlarged, normalised, staged


def activation_maps(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
    """Return channels of the last feature map weighed by the class, (b, h', w'); any sign."""
    features, gradients = staged(classifier).scored(images.detach(), targets)
    weights = gradients.float().mean((2, 3), keepdim=True)
    return (weights * features.float()).sum(1)


@SALIENCY.register("cam", SaliencyInfo(passes=(1, 0)))
def cam(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
    """Class activation map: last feature map weighed by the class, the least value subtracted."""
    # Before as well: what is flat around the least place is then zero, not what rounding leaves.
    maps = _above_the_least(activation_maps(images, targets, classifier))
    return normalised(_above_the_least(enlarged(maps, (images.shape[2], images.shape[3]))))


def _above_the_least(maps: Tensor) -> Tensor:
    return maps - maps.amin((1, 2), keepdim=True)
