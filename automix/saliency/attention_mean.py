"""Mean attention: the patches that all patches look at in the last block.

As the code of SMMix (Chen et al. 2023, arXiv:2212.12977): the mean over heads and over the tokens
that look, which asks for no class token.
"""

from __future__ import annotations

from torch import Tensor

from automix.saliency import SALIENCY, Classifier, SaliencyInfo, enlarged, normalised, staged


@SALIENCY.register("attention_mean", SaliencyInfo(requires=("attention",), passes=(1, 0)))
def attention_mean(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
    """Mean attention: what all patches look at in the last block, as the mean over heads."""
    maps = staged(classifier).attended(images.detach(), "mean")
    return normalised(enlarged(maps, (images.shape[2], images.shape[3])))
