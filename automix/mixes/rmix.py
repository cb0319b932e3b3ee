"""R-Mix: blend where two saliency masks agree, take the salient image where they differ.

Paper: Luong et al. 2023, "Expeditious saliency-guided mix-up through random gradient
thresholding", arXiv:2212.04875, section 3. The masks keep the cells above a *random* percentile
of each image's saliency, which replaces the optimisation of PuzzleMix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from automix.core.errors import ConfigError
from automix.masks.grids import saliency_of_cells
from automix.masks.shapes import Cells, Constant, Mask, as_tensor, like
from automix.mixes import MIXES, MixInfo, MixInputs

GRIDS = (2, 4)
"""Cells per side, one drawn per image: the paper's patches of 16 and 8 pixels on 32. Each divides
the last, so that all masks of a batch fit on the finest grid."""

Weigh = Callable[[np.ndarray, int], Any]
"""Positions of images, (n,), and cells per side -> (n, cells) weights, on what decides them."""

PERCENTILES = np.linspace(0.0, 0.99, 10)
"""The ten thresholds of the official code."""

IMAGE_AND_PARTNER = np.array([[0], [1]])
"""Rows of what is drawn for both."""


@MIXES.register("rmix", MixInfo(guided=True, share_error=0.03))
def rmix(inputs: MixInputs, *, grids: Sequence[int] = GRIDS) -> Mask:
    """Weigh the partner by ``share`` where both cells agree, by 0 or 1 where one is salient.

    Of both images a random part of the cells is chosen, on a grid of 2x2 or 4x4. Where only one
    image has chosen a cell, that image is shown; elsewhere the two are blended. Unguided, the
    chosen cells are random ones (the paper's random ablation).

    Formula:
        chosen = cells at or above the q-th percentile of the saliency, for each image
        q ~ uniform over 0, 0.11, ..., 0.99; its odds are tilted by those of the ratio
        M = s where both or neither have chosen, 1 where only the partner, 0 where only the image

    Args:
        inputs: What was wanted, and what to draw from.
        grids: Cells per side, one drawn per image; each divides the last.

    Guided:
        The chosen cells are the most salient ones, by the mean of the map over a cell.

    Differs:
        - Grid and share are drawn for each image; the published script draws both once a batch.
          More different images come out of a batch.
        - The paper has no ratio. At 0.5 ours is its rule; elsewhere the two percentiles are tilted
          against each other, so that 0 keeps the image and 1 gives the partner.
        - Grids of 2 and 4 cells a side stand for its patches of 16 and 8 pixels on 32, so that
          images of any size will do.
    """
    return at_random_percentiles(inputs, grids)


def at_random_percentiles(inputs: MixInputs, grids: Sequence[int]) -> Mask:
    """Draw the percentiles of R-Mix's masks and build them."""
    if inputs.ratio in (0.0, 1.0):  # one of the two keeps every cell, the other none
        return Constant(inputs.share)
    percentile = inputs.rng.integers(len(PERCENTILES), size=(2, len(inputs.share)))
    return at_percentiles(inputs, percentile, grids)


def at_percentiles(
    inputs: MixInputs, percentile: np.ndarray, grids: Sequence[int] = GRIDS
) -> Cells:
    """Build R-Mix's masks for percentiles that were chosen (RL-Mix) or drawn.

    Args:
        inputs: As ``rmix`` gets it, with a ratio above 0 and below 1.
        percentile: (2, u) int: which of ``PERCENTILES`` for each image, and for its partner.
        grids: Cells per side, one drawn per image; each divides the last.
    """
    share = inputs.share if inputs.own is None else as_tensor(inputs.share, inputs.own.device)

    def weigh(chosen: np.ndarray, grid: int) -> Any:
        rows = like(chosen, share)
        drawn = IMAGE_AND_PARTNER, percentile[:, chosen]
        if inputs.own is None or inputs.partner is None:
            mine, theirs = _random_cells(_dropped(inputs.ratio, grid)[drawn], grid, inputs.rng)
        else:
            q = _quantiles(inputs.ratio)[drawn]
            mine = _salient_cells(inputs.own[rows], q[0], grid)
            theirs = _salient_cells(inputs.partner[rows], q[1], grid)
        return (mine == theirs) * share[rows][:, None] + (theirs & ~mine)

    return on_random_grids(inputs, grids, weigh)


def on_random_grids(inputs: MixInputs, grids: Sequence[int], weigh: Weigh) -> Cells:
    """Draw a grid for each image, and put what ``weigh`` makes of it on the finest one.

    Raises:
        ConfigError: If one of the grids is no whole number above 0 or does not divide the last.
    """
    whole = all(isinstance(grid, int) and grid > 0 for grid in grids)
    if not grids or not whole or any(grids[-1] % grid for grid in grids):
        raise ConfigError(
            f"grids are {list(grids)}, wanted whole numbers above 0 that divide the last",
            f"such as {list(GRIDS)}: cells per side, of which each image draws one",
        )
    u, finest = len(inputs.share), grids[-1]
    grid_of = inputs.rng.integers(len(grids), size=u)
    decides = inputs.share if inputs.partner is None else inputs.partner
    cells = like(np.empty((u, finest * finest), np.float32), decides)
    for number, grid in enumerate(grids):
        chosen = np.flatnonzero(grid_of == number)
        if len(chosen):
            cells[like(chosen, decides)] = weigh(chosen, grid)[:, _coarse(grid, finest)]
    return Cells(cells.reshape(u, finest, finest), inputs.size)


def _random_cells(dropped: np.ndarray, grid: int, rng: np.random.Generator) -> np.ndarray:
    """Return (..., cells) bool: all but so many random cells."""
    # Sorting random numbers gives a random order of the cells, hence a random rank for each.
    rank = rng.random((*dropped.shape, grid * grid), dtype=np.float32).argsort(-1)
    return rank >= dropped[..., None]


@lru_cache
def _dropped(ratio: float, grid: int) -> np.ndarray:
    """Return how many cells lie below each quantile, (2, 10) int64."""
    return np.ceil(_quantiles(ratio) * (grid * grid - 1)).astype(np.int64)


def _salient_cells(saliency: Tensor, q: np.ndarray, grid: int) -> Tensor:
    """Return (u, cells) bool: the cells at or above the q-th percentile of the saliency."""
    cells = saliency_of_cells(saliency, (grid, grid))
    threshold = _row_quantile(cells, torch.from_numpy(q).to(cells))
    return cells >= threshold[:, None]


@lru_cache
def _coarse(grid: int, finest: int) -> np.ndarray:
    """Return the cell of the grid, of ``grid`` a side, that each of the finest ones lies in."""
    at = np.arange(finest) * grid // finest
    return (at[:, None] * grid + at).ravel()


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
