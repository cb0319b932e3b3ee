"""MixStyle on pixels: give an image some of its partner's brightness and contrast per channel.

Paper: Zhou et al. 2021, arXiv:2104.02008, section 2.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from automix.masks.recipes import Recipe
from automix.masks.shapes import Constant, Rows
from automix.mixes import MIXES, MixInfo, MixInputs

SMALLEST = 1e-6
"""Added to variances, as in the official code, so that a plain image can be scaled."""


@MIXES.register("mixstyle", MixInfo(keeps_label=True, constant=True))
def mixstyle(inputs: MixInputs) -> Recipe:
    """Move each channel's mean and standard deviation by ``share`` to the partner's.

    These statistics are light and colours, not what is seen, so the label stays. Mixing both
    linearly is the same as blending the image with itself in the partner's style.

    Formula:
        image = (1 - M) own + M restyled
        M = s
        restyled = (own - mean own) / std own * std partner + mean partner, in each channel
        std = sqrt(variance + 1e-6)

    Differs:
        - The paper mixes statistics of the features of lower layers, in half of the batches, with
          weights from Beta(0.1, 0.1). Here they are those of the pixels, and shares follow the law
          of every mix.
        - It is also what we have in the place of StyleAug, which asks a style network and adds a
          loss between differently styled views of an image. That loss could not be checked, and is
          left out.
    """
    return Recipe(Constant(inputs.share), partner=InStatistics(len(inputs.share)))


@dataclass(frozen=True, slots=True)
class InStatistics:
    """The own images with their partners' mean and standard deviation in each channel."""

    count: int
    """u."""

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, rows: Rows) -> InStatistics:
        return InStatistics(len(np.arange(self.count)[rows]))

    def __call__(self, own: Tensor, partner: Tensor) -> Tensor:
        """Return restyled images, (u, c, h, w)."""
        mean, std = _statistics(own)
        wanted_mean, wanted_std = _statistics(partner)
        return ((own - mean) / std * wanted_std + wanted_mean).to(own)

    def maps(self, own: Tensor, partner: Tensor) -> Tensor:
        """Return the own maps: what is seen, and where, stays."""
        return own


def _statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation over the pixels, (u, c, 1, 1) float32 each."""
    variance, mean = torch.var_mean(images.float(), (2, 3), correction=0, keepdim=True)
    return mean, (variance + SMALLEST).sqrt()
