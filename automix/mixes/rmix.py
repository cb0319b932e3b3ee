"""R-Mix: blend where two saliency masks agree, take the salient image where they differ.

Paper: Luong et al. 2023, "Expeditious saliency-guided mix-up through random gradient
thresholding", arXiv:2212.04875, section 3. The masks keep the cells above a *random* percentile
of each image's saliency, which replaces the optimisation of PuzzleMix.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from automix.mixes import MIXES

GRIDS = (2, 4)
"""Cells per side, one drawn per image: the paper's patches of 16 and 8 pixels on 32."""

PERCENTILES = np.linspace(0.0, 0.99, 10)
"""The ten thresholds of the official code."""


@MIXES.register("rmix", guided=True)
def rmix(
    share: Tensor,
    size: tuple[int, int],
    *,
    ratio: float,
    rng: np.random.Generator,
    own: Tensor | None,
    partner: Tensor | None,
) -> Tensor:
    """Weigh the partner by ``share`` where both cells agree, by 0 or 1 where one is salient.

    At ratio 0.5 this is R-Mix, drawn per image. For other ratios the two percentiles are tilted
    by the odds of the ratio, so that 0 keeps the image and 1 gives the partner. Unguided, random
    cells take the place of the salient ones (the paper's random ablation).
    """
    mask = share.new_empty((len(share), 1, *size))
    grid_of = rng.choice(GRIDS, len(share))
    for grid in GRIDS:
        chosen = torch.from_numpy(np.flatnonzero(grid_of == grid)).to(share.device)
        part = share[chosen]
        mine = _salient_cells(_rows(own, chosen), part, 1 - ratio, grid, rng)
        theirs = _salient_cells(_rows(partner, chosen), part, ratio, grid, rng)
        blend = part[:, None, None].expand_as(mine)
        cells = torch.where(mine == theirs, blend, theirs.float())
        mask[chosen] = F.interpolate(cells[:, None], size=size, mode="nearest")
    return mask


def _rows(saliency: Tensor | None, chosen: Tensor) -> Tensor | None:
    return None if saliency is None else saliency[chosen]


def _salient_cells(
    saliency: Tensor | None, share: Tensor, tilt: float, grid: int, rng: np.random.Generator
) -> Tensor:
    """Return (b, grid, grid) bool: cells at or above a random percentile of the saliency."""
    b = len(share)
    if b == 0:
        return torch.zeros(0, grid, grid, dtype=torch.bool, device=share.device)
    q = _tilted(rng.choice(PERCENTILES, b), tilt)
    if saliency is None:
        cells = torch.from_numpy(rng.random((b, grid, grid), dtype=np.float32)).to(share.device)
    else:
        cells = F.adaptive_avg_pool2d(saliency[:, None].float(), grid)[:, 0]
    threshold = _row_quantile(cells.flatten(1), torch.from_numpy(q).to(cells))
    keep = cells >= threshold[:, None, None]
    return torch.zeros_like(keep) if tilt == 0.0 else keep


def _tilted(q: np.ndarray, tilt: float) -> np.ndarray:
    """Multiply the odds of keeping a cell, ``(1 - q) / q``, by those of ``tilt``; 0.5 keeps q."""
    kept = (1 - q) * tilt
    return 1 - kept / np.maximum(kept + q * (1 - tilt), 1e-12)


def _row_quantile(rows: Tensor, q: Tensor) -> Tensor:
    """Return the q-th quantile of each row, (b,), interpolated as ``torch.quantile`` does.

    ``torch.quantile`` would give every quantile of every row; here each row has its own.
    """
    ordered = rows.sort(1).values
    at = q.clamp(0, 1) * (rows.shape[1] - 1)
    low = at.floor().long()
    high = at.ceil().long()
    values = ordered.gather(1, torch.stack([low, high], 1))
    return torch.lerp(values[:, 0], values[:, 1], at - low)
