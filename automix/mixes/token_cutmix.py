"""Token CutMix: paste one box of whole tokens of the partner.

Paper: Xiao et al. 2022, "Token-Label Alignment for Vision Transformers", arXiv:2210.06455,
section 3; the box of CutMix (Yun et al. 2019, arXiv:1905.04899) on the grid of a transformer's
patches.
"""

from __future__ import annotations

import numpy as np

from automix.core.settings import Range
from automix.masks.placing import placed_inside
from automix.masks.shapes import Boxes
from automix.mixes import MIXES, MixInputs

PATCHES = (16, 4, 2)
"""Pixels along a token in most nets: for photographs, small images, digits."""

FEWEST = 4
"""Tokens along the shorter side, where the patch is not set."""


@MIXES.register("token_cutmix")
def token_cutmix(inputs: MixInputs, *, patch: int = 0) -> Boxes:
    """Replace one box in each image by the same box of its partner, along the borders of tokens.

    A transformer cuts an image into patches and makes one token of each. A box of CutMix splits
    those on its border, which then show both images; here each token shows one image, so that it
    can carry one label through the net (label rule ``token_aligned``). Rows and columns of the box
    are rounded up or down at random, so that the mean share is the wanted one.

    Formula:
        M = 1 inside the box, 0 outside
        rows = H sqrt(s), rounded up or down at random, at least H s; H x W tokens
        columns = s H W / rows, rounded up or down at random
        box ~ uniform over the places inside the image

    Args:
        inputs: What was wanted, and what to draw from.
        patch: Pixels along a token of the net, or a multiple; where the net merges its tokens on
            the way, along one of the last. 0 goes by the image: the first of 16, 4 and 2 that
            divides both sides and leaves 4 tokens or more (16 at 224 pixels, 4 at 32 and 28, 2 at
            8), which also fits nets whose patches are a part of that.

    Differs:
        - The paper's code rounds both sides of the box down to even numbers of tokens, centres it
          on any token and lets the border clip it: asked for 0.5, 0.24 is got on the 14 x 14 tokens
          of ImageNet and 0.19 on 8 x 8 or 4 x 4. Our box lies inside the image and keeps the share.
        - The paper draws one box a batch; here ``trainer.mix.share_per`` says whether images have
          their own.
    """
    patch = _patch_of(inputs.size, patch)
    tokens = -(-inputs.size[0] // patch), -(-inputs.size[1] // patch)
    box = placed_inside(_sides(inputs.share, tokens, inputs.rng), tokens, inputs.rng)
    # Where the patch does not divide the image, the last tokens reach beyond it and are cut off.
    return Boxes(box.first * patch, box.end * patch, inputs.size)


def _patch_of(size: tuple[int, int], patch: int) -> int:
    """Return the pixels along a token of images (h, w), from the setting of that name."""
    Range(0, hint="pixels along a token, or 0 for what fits").check("token_cutmix.patch", patch)
    leaving = [one for one in PATCHES if min(size) >= FEWEST * one]
    dividing = [one for one in leaving if not (size[0] % one or size[1] % one)]
    return patch or (dividing or leaving or [1])[0]


def _sides(share: np.ndarray, tokens: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Return rows and columns of boxes, (u, 2) int64, that cover a share (u,) on average."""
    tall, wide = tokens
    up = rng.random((2, len(share)), dtype=np.float32)
    least = np.maximum(np.ceil(share * np.float32(tall)), 1)
    rows = np.clip(np.floor(np.sqrt(share) * np.float32(tall) + up[0]), least, tall)
    # Whatever the rows came to: the share is that of the columns given them, on average.
    columns = np.floor(share * np.float32(tall * wide) / rows + up[1])
    return np.stack([rows, np.minimum(columns, wide)], 1).astype(np.int64)
