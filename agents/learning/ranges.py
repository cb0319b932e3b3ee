"""What an agent has seen while it learned: the range of each observation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

BINS = 256
"""Parts of an observation's declared range; a quantile is known to one of them."""


class ObservedRanges:
    """Counts observations in bins: the ends are exact, quantiles are those of the bins.

    Args:
        space: Of the observations; bounded.
    """

    def __init__(self, space: spaces.Box) -> None:
        self._low, self._width = space.low, (space.high - space.low) / BINS
        self._counts = np.zeros((*space.shape, BINS), dtype=np.int64)
        self._least = np.full(space.shape, np.inf)
        self._most = -self._least

    def add(self, observations: np.ndarray) -> None:
        """Count observations (n, d)."""
        bins = ((observations - self._low) / self._width).astype(int).clip(0, BINS - 1)
        np.add.at(self._counts, (np.arange(bins.shape[1]), bins), 1)
        self._least = np.minimum(self._least, observations.min(0))
        self._most = np.maximum(self._most, observations.max(0))

    def by_name(self, names: Sequence[str], sizes: Sequence[int]) -> dict[str, list[float]]:
        """Return ``[least, 1 % quantile, 99 % quantile, most]`` of each observation.

        Args:
            names: Of the observations, in order.
            sizes: Numbers behind each name, which have one range together.
        """
        if not self._counts.any():
            return {}
        found, starts = {}, np.cumsum([0, *sizes])
        for name, start, end in zip(names, starts, starts[1:], strict=False):
            share = self._counts[start:end].sum(0).cumsum() / self._counts[start:end].sum()
            ends = np.searchsorted(share, 0.01, "right"), np.searchsorted(share, 0.99) + 1
            inner = self._low[start] + self._width[start] * np.array(ends)
            least, most = self._least[start:end].min(), self._most[start:end].max()
            values = [least, *inner.clip(least, most), most]
            found[name] = [round(float(value), 6) for value in values]
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of what has been counted."""
        parts = {"counts": self._counts, "least": self._least, "most": self._most}
        return {name: part.copy() for name, part in parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting from a state."""
        self._counts, self._least = state["counts"].copy(), state["least"].copy()
        self._most = state["most"].copy()
