"""R-Mix: blend where two saliency masks agree, take the salient image where they differ.

Paper: Luong et al. 2023, "Expeditious saliency-guided mix-up through random gradient
thresholding", arXiv:2212.04875, section 3. The masks keep the cells above a *random* percentile
of each image's saliency, which replaces the optimisation of PuzzleMix.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from automix.masks import Cells, Constant, Mask, as_tensor, like
from automix.mixes import MIXES, Draw

GRIDS = (2, 4)
"""Cells per side, one drawn per image: the paper's patches of 16 and 8 pixels on 32. Each divides
the last, so that all masks of a batch fit on the finest grid."""

PERCENTILES = np.linspace(0.0, 0.99, 10)
"""The ten thresholds of the official code."""

IMAGE_AND_PARTNER = np.array([[0], [1]])
"""Rows of what is drawn for both."""


@MIXES.register("rmix", guided=True)
def rmix(draw: Draw) -> Mask:
    """Weigh the partner by ``share`` where both cells agree, by 0 or 1 where one is salient.

    At ratio 0.5 this is R-Mix, drawn per image. For other ratios the two percentiles are tilted
    by the odds of the ratio, so that 0 keeps the image and 1 gives the partner. Unguided, random
    cells take the place of the salient ones (the paper's random ablation).
    """
    if draw.ratio in (0.0, 1.0):  # one of the two keeps every cell, the other none
        return Constant(draw.share)
    u, finest = len(draw.share), GRIDS[-1]
    percentile = draw.rng.integers(len(PERCENTILES), size=(2, u))  # of the image, of the partner
    grid_of = draw.rng.integers(len(GRIDS), size=u)
    share = draw.share if draw.own is None else as_tensor(draw.share, draw.own.device)
    cells = share.reshape(u, 1, 1) * like(np.ones((finest, finest), np.float32), share)
    for number, grid in enumerate(GRIDS):
        chosen = np.flatnonzero(grid_of == number)
        if len(chosen) == 0:
            continue
        rows = like(chosen, share)
        q = _quantiles(draw.ratio)[IMAGE_AND_PARTNER, percentile[:, chosen]]
        if draw.own is None or draw.partner is None:
            mine, theirs = _random_cells(q, grid, draw.rng)
        else:
            mine = _salient_cells(draw.own[rows], q[0], grid)
            theirs = _salient_cells(draw.partner[rows], q[1], grid)
        weight = (mine == theirs) * share[rows].reshape(-1, 1, 1) + (theirs & ~mine)
        fine = np.arange(finest) * grid // finest
        cells[rows] = weight if grid == finest else weight[:, fine][:, :, fine]
    return Cells(cells, draw.size)


def _random_cells(q: np.ndarray, grid: int, rng: np.random.Generator) -> np.ndarray:
    """Return (..., grid, grid) bool: as many random cells as lie above the q-th quantile."""
    n = grid * grid
    # Sorting random numbers gives a random order of the cells, hence a random rank for each.
    rank = rng.random((*q.shape, n), dtype=np.float32).argsort(-1)
    return (rank >= np.ceil(q * (n - 1))[..., None]).reshape(*q.shape, grid, grid)


def _salient_cells(saliency: Tensor, q: np.ndarray, grid: int) -> Tensor:
    """Return (u, grid, grid) bool: the cells at or above the q-th percentile of the saliency."""
    cells = F.adaptive_avg_pool2d(saliency[:, None].float(), grid)[:, 0]
    threshold = _row_quantile(cells.flatten(1), torch.from_numpy(q).to(cells))
    return cells >= threshold[:, None, None]


@lru_cache
def _quantiles(ratio: float) -> np.ndarray:
    """Return the ten quantiles for the image and for its partner, (2, 10).

    The odds of keeping a cell, ``(1 - q) / q``, are multiplied by those of the ratio for the
    partner, and of ``1 - ratio`` for the image; at 0.5 both keep the paper's.
    """
    tilt = np.array([[1 - ratio], [ratio]])
    kept = (1 - PERCENTILES) * tilt
    return 1 - kept / (kept + PERCENTILES * (1 - tilt))


def _row_quantile(rows: Tensor, q: Tensor) -> Tensor:
    """Return the q-th quantile of each row, (u,), interpolated as ``torch.quantile`` does.

    ``torch.quantile`` would give every quantile of every row; here each row has its own.
    """
    ordered = rows.sort(1).values
    at = q.clamp(0, 1) * (rows.shape[1] - 1)
    low = at.floor().long()
    high = at.ceil().long()
    values = ordered.gather(1, torch.stack([low, high], 1))
    return torch.lerp(values[:, 0], values[:, 1], at - low)
