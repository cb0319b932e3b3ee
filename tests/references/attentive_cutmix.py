"""Attentive CutMix, Walawalkar et al. 2020, section 3: the top cells of the partner."""

from __future__ import annotations

from collections.abc import Sequence

from tests.references import cells


def mask(saliency: Sequence, share: float, side: int, luck: float) -> list[list[float]]:
    """Paste the most salient cells of a map (h, w); the last one if luck is below what fits."""
    size = len(saliency), len(saliency[0])
    grid = min(side, size[0]), min(side, size[1])
    means = cells.pooled(saliency, *grid)
    order = sorted(range(len(means)), key=lambda cell: -means[cell])
    return cells.mask(order, share, size, grid, luck)
