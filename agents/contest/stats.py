"""Scores of contestants over tasks and seeds, with rliable's vocabulary on scipy.

Definitions: Agarwal et al. 2021, "Deep RL at the edge of the statistical precipice",
arXiv:2108.13264, sections 4.2 and 4.3. Scores are arrays (kinds of task, seeds).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from automix.core.seeding import generator

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


def ratio(pairs: np.ndarray) -> np.ndarray:
    """Mean of the first column over mean of the second, (..., kinds, seeds, 2) -> (...).

    The second is taken to be above zero: a resample where it is not counts as a huge ratio.
    """
    first, second = np.moveaxis(pairs.mean((-3, -2)), -1, 0)
    return np.asarray(first / np.maximum(second, 1e-6))


def stratified_bootstrap(
    scores: np.ndarray, statistic: Statistic, *, resamples: int, seed: int
) -> Interval:
    """Return a statistic with its percentile interval.

    Seeds are drawn with replacement within each kind of task; kinds are fixed, so the interval
    speaks of these kinds and not of others.

    Args:
        scores: (kinds, seeds), or (kinds, seeds, columns) for columns that belong together.
        statistic: Of (..., kinds, seeds) or (..., kinds, seeds, columns).
        resamples: Bootstrap draws.
        seed: Of the draws.
    """
    rng = generator(seed, "bootstrap")
    kinds, seeds = scores.shape[:2]
    drawn = rng.integers(seeds, size=(resamples, kinds, seeds))
    values = statistic(scores[np.arange(kinds)[:, None], drawn])
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(float(statistic(scores[None])[0]), float(low), float(high))


def cluster_bootstrap(
    scores: np.ndarray, statistic: Statistic, *, resamples: int, seed: int
) -> Interval:
    """Return a statistic of the tasks' mean scores with its percentile interval.

    Whole tasks are drawn with replacement, so the interval speaks of the family that they were
    drawn from. The training runs of a task are one cluster: more of them make its mean less noisy,
    and do not count as more tasks.

    Args:
        scores: (tasks, runs), or (tasks, runs, columns).
        statistic: As ``stratified_bootstrap`` takes it; it sees one kind, with a seed a task.
        resamples: Bootstrap draws.
        seed: Of the draws.
    """
    return stratified_bootstrap(scores.mean(1)[None], statistic, resamples=resamples, seed=seed)


def bootstrap(
    scores: np.ndarray, statistic: Statistic, *, whole_tasks: bool, resamples: int, seed: int
) -> Interval:
    """Return ``cluster_bootstrap`` for tasks drawn from a family, else ``stratified_bootstrap``."""
    resample = cluster_bootstrap if whole_tasks else stratified_bootstrap
    return resample(scores, statistic, resamples=resamples, seed=seed)


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


FEWEST_PAIRS = 6
"""Pairs below which ``smallest_p`` is 0.05 or more: whatever they show, it can be chance."""
