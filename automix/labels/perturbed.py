"""Perturbed: the area is a guess; the classifier and chance have a say, too.

After LUMix (Sun et al. 2022, arXiv:2211.15846). Its code was never published and its formula is
from memory: this is in its style, not a reproduction.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from automix.errors import ConfigError
from automix.labels import LABEL_RULES, Seen, Shown, Weights
from automix.masks import Array


@LABEL_RULES.register("perturbed")
def perturbed(
    shown: Shown, *, strength: float = 0.4, noise: float = 0.1, alpha: float = 1.0
) -> Array | Weights:
    """Move the area label towards what the classifier sees, and towards a random number.

    ``(1 - strength - noise) * area + strength * p(own) / (p(own) + p(partner)) + noise * r``. The
    probabilities are those of the step itself, so they cost no pass. Where nobody asks the
    classifier, the area stands for what it sees. An image that shows only one of the two keeps its
    label. With both settings at 0 this is the rule "area".

    Args:
        shown: What the images show.
        strength: How much the classifier has to say, in [0, 1]. Of 0.4 to 0.5 that the paper is
            remembered to use, the smaller: a young classifier knows little.
        noise: How much chance has to say, in [0, 1 - strength].
        alpha: r is drawn from Beta(alpha, alpha); 1 is uniform, the law of the papers' shares.
    """
    if not (strength >= 0 and noise >= 0 and strength + noise <= 1):
        raise ConfigError(
            f"perturbed.strength is {strength} and perturbed.noise {noise}, "
            "wanted 0 or more, at most 1 together"
        )
    if not 0 < alpha < float("inf"):
        raise ConfigError(f"perturbed.alpha is {alpha}, wanted a number above 0")
    if strength == noise == 0:
        return 1 - shown.area
    area = 1 - shown.areas
    drawn = shown.rng.beta(alpha, alpha, len(shown.mask)).astype(np.float32)
    chance = torch.from_numpy(shown.pairs.each(drawn)).to(area.device, non_blocking=True)
    both = (area > 0) & (area < 1)

    def weight(seen: Tensor, rows: slice) -> Tensor:
        here = [part[rows].to(seen.device, non_blocking=True) for part in (area, chance, both)]
        mixed = (1 - strength - noise) * here[0] + strength * seen + noise * here[1]
        return torch.where(here[2], mixed, here[0]).clamp(0, 1)

    def revision(seen: Seen, rows: slice) -> Tensor:
        total = seen.own + seen.partner
        share = torch.where(total > 0, seen.own / total, area[rows].to(total.device))
        return weight(share, rows)

    lam = weight(area, slice(None))
    return Weights(lam, 1 - lam, revision=revision if strength else None)
