"""PointCutMix: replace points of a cloud by those of another that they are matched with.

Paper: Zhang et al. 2021, arXiv:2101.01461, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from automix.masks.recipes import Recipe
from automix.masks.shapes import Dense, PerDraw, as_tensor
from automix.mixes import MIXES, MixInfo, MixInputs

FAINTEST = 1e-30
"""Saliency that every point has at least; points without any come last, in random order."""


@MIXES.register("pointcutmix", MixInfo(guided=True, looks=True, points=True, moves=True))
def pointcutmix(inputs: MixInputs, *, nearest: bool = True) -> Recipe:
    """Replace ``share`` of the points of a cloud, in whole points, by their matches.

    Points are matched one to one so that the sum of their distances is smallest (the earth mover's
    distance): what is replaced has its like in the other cloud.

    Formula:
        M = 1 at the n points taken, 0 elsewhere
        n = s N, rounded; N: points of a cloud
        taken = the n points nearest to a random one, or n random ones
        random: all points alike; guided, in proportion to the saliency of their matches
        matches = the permutation of the partner's points with the smallest sum of distances

    Args:
        inputs: What was wanted, and what to draw from; ``images`` are clouds (u, points,
            coordinates), and maps are (u, points, 1).
        nearest: Whether the points nearest to a random one are replaced (the paper's K), or random
            ones (R).

    Guided:
        Points are drawn in proportion to the saliency of the partner's points that they are matched
        with: of K the one in the middle, of R all of them.

    Differs:
        - The published R replaces the same numbers in all clouds of a batch; here each cloud has
          its own.
        - Matches are exact; the published code comes near them by an auction. The published code
          also replaces one point at least, whatever the share.
        - The guided forms are ours: the paper has some of its own, its code has none.
    """
    if inputs.images is None or inputs.pairs is None:
        raise ValueError("pointcutmix looks at the clouds: draw.images and draw.pairs are wanted")
    clouds = inputs.images.detach().float()
    matched = _matched(clouds, clouds[as_tensor(inputs.pairs.partner, clouds.device)])
    order = as_tensor(matched.order, clouds.device)
    # Who is first in a race of exponential times, divided by saliency, is drawn in proportion to
    # it, and so is the next among the rest.
    times = inputs.rng.standard_exponential(matched.order.shape).astype(np.float32)
    race = as_tensor(np.maximum(times, FAINTEST), clouds.device)
    if inputs.partner is not None:
        race = race.log() - inputs.partner[:, :, 0].gather(1, order).clamp(min=FAINTEST).log()
    if nearest:
        centre = race.argmin(1)[:, None, None].expand(-1, 1, clouds.shape[2])
        race = (clouds - clouds.gather(1, centre)).square().sum(2)
    count = as_tensor(np.rint(inputs.share * inputs.size[0]), clouds.device)
    taken = race.argsort(dim=1, stable=True).argsort(1) < count[:, None]
    return Recipe(Dense(taken[:, None, :, None].float()), partner=matched)


@dataclass(frozen=True, slots=True)
class Matched(PerDraw):
    """Partner clouds with their points in the order of those that they are matched with."""

    order: np.ndarray
    """(u, points) int64: which point of the partner goes with each point of the image."""

    def __call__(self, own: Tensor, partner: Tensor) -> Tensor:
        """Return re-ordered clouds, (u, coordinates, points, 1)."""
        return partner.take_along_dim(as_tensor(self.order, own.device)[:, None, :, None], 2)

    def maps(self, own: Tensor, partner: Tensor) -> Tensor:
        """Return the partners' maps, (u, points, 1), in that order."""
        return partner.take_along_dim(as_tensor(self.order, own.device)[:, :, None], 1)


def _matched(own: Tensor, partner: Tensor) -> Matched:
    """Match points of clouds (u, points, coordinates) at the smallest sum of distances.

    One cloud after the other, on the host: an exact assignment is a search that no batch can
    share, and the batched auction of the published code is neither exact nor to be had for a CPU.
    """
    from scipy.optimize import linear_sum_assignment  # takes a quarter of a second; few have clouds

    exact = "donot_use_mm_for_euclid_dist"  # a product of matrices would round off small ones
    # A broken cloud has no distances; any order of its points will do.
    distances = torch.cdist(own, partner, compute_mode=exact).nan_to_num().cpu().numpy()
    return Matched(np.stack([linear_sum_assignment(one)[1] for one in distances]))
