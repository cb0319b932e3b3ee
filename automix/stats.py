"""Scores of contestants over tasks and seeds, with rliable's vocabulary on scipy.

Definitions: Agarwal et al. 2021, "Deep RL at the edge of the statistical precipice",
arXiv:2108.13264, sections 4.2 and 4.3. Scores are arrays (kinds of task, seeds).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from automix.seeding import generator

Statistic = Callable[[np.ndarray], np.ndarray]
"""(resamples, kinds, seeds) -> (resamples,)."""


@dataclass(frozen=True)
class Interval:
    """A point estimate with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def bounds(self) -> list[float]:
        """``[low, high]``."""
        return [self.low, self.high]


def iqm(scores: np.ndarray) -> np.ndarray:
    """Interquartile mean over all kinds and seeds: the mean of the middle half."""
    return np.asarray(stats.trim_mean(scores.reshape(*scores.shape[:-2], -1), 0.25, axis=-1))


def mean(scores: np.ndarray) -> np.ndarray:
    """Mean over all kinds and seeds."""
    return np.asarray(scores.mean((-2, -1)))


def stratified_bootstrap(
    scores: np.ndarray, statistic: Statistic, *, resamples: int, seed: int
) -> Interval:
    """Return a statistic with its percentile interval.

    Seeds are drawn with replacement within each kind of task; kinds are fixed, so the interval
    speaks of these kinds and not of others.

    Args:
        scores: (kinds, seeds).
        statistic: Of (..., kinds, seeds).
        resamples: Bootstrap draws.
        seed: Of the draws.
    """
    rng = generator(seed, "bootstrap")
    kinds, seeds = scores.shape
    drawn = rng.integers(seeds, size=(resamples, kinds, seeds))
    values = statistic(np.take_along_axis(scores[None], drawn, axis=2))
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(float(statistic(scores[None])[0]), float(low), float(high))


def probability_of_improvement(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the chance that a random run of ours beats one of theirs on the same kind of task.

    The mean over kinds of Mann-Whitney's U / (n * m); ties count half.
    """
    wins = [
        stats.mannwhitneyu(a, b).statistic / (len(a) * len(b))
        for a, b in zip(ours, theirs, strict=True)
    ]
    return float(np.mean(wins))


def smallest_p(seeds: int) -> float:
    """Return the smallest two-sided p that a paired sign-flip test over that many pairs gives."""
    return float(2.0 ** (1 - seeds))
