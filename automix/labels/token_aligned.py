"""Token-aligned: labels travel through the net as the tokens do.

TL-Align (Xiao et al. 2022, arXiv:2210.06455, section 3).
"""

from __future__ import annotations

from automix.labels import LABEL_RULES, LabelInfo, MixRecord, Weights, watched_weights
from automix.nets.attention import carried


@LABEL_RULES.register("token_aligned", LabelInfo(requires=("attention",)))
def token_aligned(record: MixRecord) -> Weights:
    """Weigh each label by what arrives of its image where the net reads its answer.

    Each token begins with the label of the image that it shows, the class token with that of the
    area. In every block a token passes half of its label on and takes the other half from the
    tokens that it attends to, mean over heads: so do the tokens themselves, in what they add and
    what they keep. The label of the class token behind the last block is the target; in a net that
    has none, the mean over its tokens. One number a token, the partner's weight, says the same as
    a row of all classes would: every label on the way is a mix of the two.

    The attention is that of the step itself, so it costs no pass, and no gradient goes through it.
    Where nobody watches the classifier this is the area, and so it is for masks that are constant.
    A token that shows both images begins with a mix of both labels; under ``token_cutmix`` none
    does, as in the paper. An image that shows only one of the two keeps its label.
    """
    return watched_weights(record, carried)
