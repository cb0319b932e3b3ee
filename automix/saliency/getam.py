"""GETAM: attention that speaks for the image's class, over all blocks.

Sun et al. 2021, arXiv:2112.02841, in the form of the published code: the mean over heads of what
is positive of attention times its gradient, times the mean over heads of what is positive of the
gradient, at the row of the class token, summed over blocks. The gradient counts twice: it says
where the score comes from, where attention itself is diffuse. Nets with stages have maps of several
sizes, of which those of the last stage are taken.
"""

from __future__ import annotations

from torch import Tensor

from automix.saliency import SALIENCY, Classifier, SaliencyInfo, enlarged, normalised, staged


@SALIENCY.register("getam", SaliencyInfo(requires=("attention",), passes=(1, 1)))
def getam(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
    """GETAM: attention times its squared gradient, where both support the class, in all blocks."""
    maps = staged(classifier).spoken_for(images.detach(), targets)
    return normalised(enlarged(maps, (images.shape[2], images.shape[3])))
