"""Class attention: the patches that the class token looks at in the last block.

TransMix (Chen et al. 2022, arXiv:2111.09833, equation 4): the mean over heads. Nets whose head
reads the mean of the tokens have no class token that is trained; there it is the mean over tokens.
"""

from __future__ import annotations

from torch import Tensor

from automix.saliency import SALIENCY, Classifier, SaliencyInfo, enlarged, normalised, staged


@SALIENCY.register("attention_cls", SaliencyInfo(requires=("attention",), passes=(1, 0)))
def attention_cls(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
    """Class attention: what the class token looks at in the last block, as the mean over heads."""
    maps = staged(classifier).attended(images.detach(), "class")
    return normalised(enlarged(maps, (images.shape[2], images.shape[3])))
