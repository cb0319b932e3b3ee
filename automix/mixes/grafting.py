"""Saliency Grafting: draw which of the partner's salient cells are grafted onto the image.

Paper: Park et al. 2022, arXiv:2112.08796. No code was published.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from automix.core.settings import Range
from automix.masks.grids import grid_of, saliency_of_cells
from automix.masks.shapes import Array, Cells, as_float, as_tensor, pixels_of_cells
from automix.mixes import MIXES, MixInfo, MixInputs


@MIXES.register("grafting", MixInfo(guided=True))
def grafting(inputs: MixInputs, *, cells: int = 4, temperature: float = 0.2) -> Cells:
    """Graft each of the partner's salient cells with a probability that grows with its saliency.

    Salient cells come in often, but not always the same ones. Cells are drawn independently, so
    that the realised share scatters around the wanted one. Unguided, each cell has the probability
    ``share``.

    Formula:
        M = 1 in the cells taken, 0 elsewhere; a cell is taken with probability p
        p = s
        p = min(1, c exp(S / (T max S)))   guided, in cells at or above the median of S; 0 below it
        c: such that the mean of p over the image is s
        S: the partner's saliency in the cell; T: temperature

    Args:
        inputs: What was wanted, and what to draw from.
        cells: Cells per side; an image of fewer pixels has one cell a pixel.
        temperature: Of the softmax, above 0: small ones graft the peak nearly always, large ones
            all kept cells alike.

    Guided:
        Probabilities follow a softmax of the partner's saliency. Cells below the median come in
        only when all others are taken.

    Differs:
        - That the map is scaled and truncated and cells are drawn from a Bernoulli law is the
          paper's. What could not be checked is our choice: a 4 x 4 grid, for small images; the
          median as the bound, so that half of the cells are left to draw from; a softmax over the
          peak with temperature 0.2, which prefers the peak and still varies.
        - The paper has no ratio. Probabilities are scaled until their mean is the wanted share.
        - The paper weighs labels by saliency, which is a matter of the label rule, and maps come
          from any provider.
    """
    Range(above=0, hint="such as 0.2").check("temperature", temperature)
    grid = grid_of(inputs.size, cells)
    chance = inputs.rng.random((len(inputs.share), grid[0] * grid[1]), dtype=np.float32)
    taken: Array
    if inputs.partner is None:
        taken = chance < inputs.share[:, None]
    else:
        pixels = pixels_of_cells(inputs.size, *grid).astype(np.float32)
        part = as_tensor(pixels, inputs.partner.device) / (inputs.size[0] * inputs.size[1])
        share = as_tensor(inputs.share, inputs.partner.device)[:, None]
        saliency = saliency_of_cells(inputs.partner, grid)
        taken = as_tensor(chance, saliency.device) < probabilities(
            saliency, share, part, temperature
        )
    return Cells(as_float(taken).reshape(-1, *grid), inputs.size)


def probabilities(saliency: Tensor, share: Tensor, part: Tensor, temperature: float) -> Tensor:
    """Return each cell's probability, (u, cells); ``part @`` them is the share.

    Args:
        saliency: (u, cells), not negative.
        share: (u, 1) in [0, 1].
        part: (cells,): each cell's part of the image.
        temperature: Of the softmax.
    """
    # The upper one: of two equal halves the salient is kept. Of a flat map all is.
    median = saliency.kthvalue(saliency.shape[1] // 2 + 1, 1, keepdim=True).values
    kept = saliency >= median
    peak = saliency.amax(1, keepdim=True)
    scaled = torch.where(peak > 0, saliency / peak, 0.0) / temperature
    weight = torch.where(kept, (scaled - scaled.amax(1, keepdim=True)).exp(), 0.0)
    room = (kept * part).sum(1, keepdim=True)
    grafted = (_scale(weight, share, part) * weight).clamp(max=1)
    rest = ((share - room) / (1 - room)).clamp(0, 1)
    return torch.where(share < room, grafted, torch.where(kept, 1.0, rest))


def _scale(weight: Tensor, share: Tensor, part: Tensor) -> Tensor:
    """Return c, (u, 1), such that ``part @ min(1, c * weight)`` is the share.

    If the m heaviest cells are cut off at 1, c is what is left of the share over what is left of
    the weight. Cutting off the wrong ones never gives less than ``min`` does, hence never a
    larger c: the right m is that of the largest.
    """
    order = weight.argsort(1, descending=True)
    heavy, area = weight.gather(1, order), part[order]
    mass = (heavy * area).flip(1).cumsum(1).flip(1)
    left = share - (area.cumsum(1) - area)
    return torch.where(mass > 0, left / mass, 0.0).amax(1, keepdim=True)
