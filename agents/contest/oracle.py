"""Regret to the oracle: the best fixed choice of each task, known only afterwards.

An oracle that is picked and scored on the same trainings is the luckiest of many choices, so its
score is too high and every regret too large. The cross-fitted one is picked, for each training of
a task, on the task's other trainings: what it scores on the one left out owes nothing to luck.
Being picked on fewer trainings, it is at times not the best, so its regret is if anything small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from automix.agents.config.settings import RunSettings
from automix.agents.contest import stats


def interval_of(
    scores: np.ndarray, statistic: stats.Statistic, settings: RunSettings
) -> stats.Interval:
    """Return a statistic of a score table with the interval that a run's settings ask for.

    Args:
        scores: (kinds, seeds), or (draws, trainings) where tasks are drawn.
        statistic: As ``stats.bootstrap`` takes it.
        settings: Of the run.
    """
    return stats.bootstrap(
        scores,
        statistic,
        whole_tasks=settings.compare.draws > 0,
        resamples=settings.compare.resamples,
        seed=settings.seed,
    )


def hindsight(choices: np.ndarray) -> np.ndarray:
    """Return the scores of each task's best choice on average, (tasks, trainings).

    Args:
        choices: (choices, tasks, trainings).
    """
    best = choices.mean(2).argmax(0)
    return choices[best, np.arange(choices.shape[1])]


def cross_fitted(choices: np.ndarray) -> np.ndarray:
    """Return, for each training, the score of the choice that is best on the task's others.

    Args:
        choices: (choices, tasks, trainings), two trainings or more.
    """
    others = choices.sum(2, keepdims=True) - choices
    return np.take_along_axis(choices, others.argmax(0)[None], axis=0)[0]


def oracle_of(
    tables: Mapping[str, np.ndarray], fixed: Sequence[str], best: str | None, settings: RunSettings
) -> dict[str, Any]:
    """Return everybody's regret to both oracles, and the agent's in shares of the best choice's.

    Args:
        tables: Scores of each contestant, (tasks, trainings).
        fixed: The contestants that the oracle picks from.
        best: The fixed choice that was picked for all tasks.
        settings: Of the run.
    """
    choices = np.stack([tables[name] for name in fixed])
    # One training has no others to pick on.
    fair = cross_fitted(choices) if choices.shape[2] > 1 else None
    return {
        "choices": len(fixed),
        "hindsight": _regrets(hindsight(choices), tables, best, settings),
        "cross_fitted": None if fair is None else _regrets(fair, tables, best, settings),
    }


def _regrets(
    oracle: np.ndarray, tables: Mapping[str, np.ndarray], best: str | None, settings: RunSettings
) -> dict[str, Any]:
    regrets = {name: oracle - scores for name, scores in tables.items()}
    told = {name: _told(interval_of(r, stats.mean, settings)) for name, r in regrets.items()}
    return {
        "score": float(oracle.mean()),
        "regret": told,
        "ratio": _ratio(regrets, told, best, settings),
    }


def _ratio(
    regrets: Mapping[str, np.ndarray],
    told: Mapping[str, dict[str, Any]],
    best: str | None,
    settings: RunSettings,
) -> dict[str, Any] | None:
    """Return the agent's regret over the best choice's, where that is surely above zero."""
    if "agent" not in regrets or best is None or told[best]["ci95"][0] <= 0:
        return None
    pairs = np.stack([regrets["agent"], regrets[best]], axis=-1)
    return _told(interval_of(pairs, stats.ratio, settings))


def _told(interval: stats.Interval) -> dict[str, Any]:
    return {"mean": interval.value, "ci95": interval.bounds}
