"""What a comparison shows: score and interval of each contestant, paired differences, regret.

The oracle is the best fixed choice of each task, known only afterwards. One that is picked and
scored on the same training runs is the luckiest of many choices, so its score is too high and every
regret too large. The cross-fitted one is picked, for each training run of a task, on the task's
others: what it scores on the one left out owes nothing to luck. Being picked on fewer runs, it is
at times not the best, so its regret is if anything small.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from automix.agents.config.draws import cells_of
from automix.agents.config.settings import RunSettings
from automix.agents.contest import stats
from automix.agents.contest.by_world import over_worlds, world_rows
from automix.agents.contest.compare import TrialRecord
from automix.agents.contest.controls import SearchResult
from automix.agents.contest.own_training import asks_policy
from automix.mixing.actions import MixAction
from automix.mixing.batch import DEFAULTS, MixSettings
from automix.policy.policy import decision_starts
from automix.policy.schedule import MixSchedule


@dataclass(frozen=True)
class Picked:
    """Which fixed choice was picked, and how.

    Attributes:
        name: Of the contestant.
        tasks: Validation tasks that it was picked on; 0 for the compared tasks themselves.
        classifier_epochs: What picking cost, beyond the comparison.
        by_contestant: Mean validation accuracy of each fixed choice on those tasks.
    """

    name: str
    tasks: int
    classifier_epochs: int
    by_contestant: Mapping[str, float]


def summarise(
    trials: Sequence[TrialRecord],
    settings: RunSettings,
    epochs_learning: int = 0,
    passes: int = 0,
    searched: Mapping[str, SearchResult] | None = None,
    picked: Picked | None = None,
) -> dict[str, Any]:
    """Turn trials into the table: score and interval of each, and the agent's paired differences.

    Args:
        trials: As ``compare`` returns them.
        settings: Resamples and seed of the bootstrap; epochs of a training.
        epochs_learning: Classifier epochs that the agent's learning cost.
        passes: Forward and backward passes of the same.
        searched: What the controls found, and what that cost.
        picked: The best fixed choice, where it was picked on other tasks.
    """
    names = list(dict.fromkeys(trial["contestant"] for trial in trials))
    tasks = _task_names(trials, settings)
    drawn = settings.compare.draws > 0
    tables = {name: score_table(trials, name, drawn) for name in names}
    rows = [
        _row(tables[name], tasks, [t for t in trials if t["contestant"] == name], settings)
        for name in names
    ]
    searched = dict(searched or {})
    _charge(rows, epochs_learning, passes, searched)
    fixed = [row["name"] for row in rows if row["kind"] == "fixed"]
    picked = picked or _picked_here(rows)
    best = picked.name if picked else None
    minus = {
        name: _difference(tables["agent"], tables[name], settings)
        for name in names
        if "agent" in tables and name != "agent"
    }
    by_world = {
        world: {
            name: score_table([t for t in trials if t["task"] == world], name, drawn)
            for name in names
        }
        for world in (tasks if settings.worlds.suite else ())
    }
    enough = (settings.compare.draws or settings.compare.seeds) >= stats.FEWEST_PAIRS
    return {
        "unit": "test accuracy",
        "tasks": tasks,
        "seeds": sorted({trial["seed"] for trial in trials}),
        "draws": settings.compare.draws,
        "trainings": settings.compare.seeds if drawn else 1,
        "contestants": sorted(rows, key=lambda row: -row["iqm"]),
        "best_fixed": best,
        "best_fixed_picked": asdict(picked) if picked else None,
        "agent_minus": minus,
        "worlds": world_rows(by_world, best, settings),
        "agent_minus_over_worlds": over_worlds(by_world, settings) if by_world else {},
        "enough": enough,
        "not_beaten": [name for name, one in minus.items() if not (enough and one["above_zero"])],
        "on_tuned_recipe": (
            _difference(tables["tuned_agent"], tables["tuned_none"], settings)
            if {"tuned_agent", "tuned_none"} <= {*tables}
            else None
        ),
        "oracle": oracle_of(tables, fixed, best, settings) if len(fixed) > 1 else None,
        "found": {
            name: [str(a) for a in one.schedule] for name, one in searched.items() if one.schedule
        },
    }


def score_table(
    trials: Sequence[TrialRecord], name: str, drawn: bool = False, key: str = "test_accuracy"
) -> np.ndarray:
    """Return one contestant's scores in the order of the trials.

    Args:
        trials: As ``compare`` returns them.
        name: Of the contestant.
        drawn: Whether tasks were drawn from a family: each seed is a task then.
        key: What to collect.

    Returns:
        (kinds, seeds), or (draws, runs).
    """
    rows: dict[object, list[float]] = {}
    for trial in trials:
        if trial["contestant"] == name:
            kind = [trial.get(part) for part in ("task", "train_size", "label_noise")]
            rows.setdefault(trial["seed"] if drawn else tuple(kind), []).append(trial[key])
    return np.array(list(rows.values()))


def _task_names(trials: Sequence[TrialRecord], settings: RunSettings) -> list[str]:
    """Return kinds as they came, or the cells that have draws, from easy to hard."""
    met = dict.fromkeys(trial["task"] for trial in trials)
    if settings.worlds.suite or not settings.compare.draws:
        return [*met]
    return [task for task in cells_of(settings.task) if task in met]


def _row(
    scores: np.ndarray, tasks: Sequence[str], trials: Sequence[TrialRecord], settings: RunSettings
) -> dict[str, Any]:
    interval = interval_of(scores, stats.iqm, settings)
    return {
        "name": trials[0]["contestant"],
        "kind": trials[0]["kind"],
        "iqm": interval.value,
        "ci95": interval.bounds,
        "mean": float(scores.mean()),
        "n": int(scores.size),
        "by_task": {
            task: float(np.mean([t["test_accuracy"] for t in trials if t["task"] == task]))
            for task in tasks
        },
        "val_accuracy": float(np.mean([t["val_accuracy"] for t in trials])),
        "ece": float(np.mean([t["test_ece"] for t in trials])),
        "top5": _mean_top5(trials),
        "diverged": sum(t["diverged"] for t in trials),
        "epochs_spent": sum(len(t["mixes"]) + t.get("settling_epochs", 0) for t in trials),
        "passes": sum(
            t["forward_passes"] + t["backward_passes"] + t.get("settling_passes", 0) for t in trials
        ),
    }


def _mean_top5(trials: Sequence[TrialRecord]) -> float | None:
    """Return the mean top-5 accuracy; None where there are too few classes for one."""
    values = [t["test_top5"] for t in trials]
    return None if None in values else float(np.mean(values))


def _charge(
    rows: Sequence[dict[str, Any]], epochs: int, passes: int, searched: Mapping[str, SearchResult]
) -> None:
    """Add what learning and searching cost to the contestants that it was done for."""
    for row in rows:
        if asks_policy(row["name"]):
            row["epochs_spent"] += epochs
            row["passes"] += passes
        if result := searched.get(row["name"]):
            row["epochs_spent"] += result.classifier_epochs
            row["passes"] += result.passes


def _picked_here(rows: Sequence[dict[str, Any]]) -> Picked | None:
    """Pick by validation accuracy on the compared tasks."""
    accuracy = {row["name"]: row["val_accuracy"] for row in rows if row["kind"] == "fixed"}
    if not accuracy:
        return None
    return Picked(max(accuracy, key=lambda name: accuracy[name]), 0, 0, accuracy)


def _difference(ours: np.ndarray, theirs: np.ndarray, settings: RunSettings) -> dict[str, Any]:
    interval = interval_of(ours - theirs, stats.mean, settings)
    return {
        "mean": interval.value,
        "ci95": interval.bounds,
        "p_improvement": stats.probability_of_improvement(ours, theirs),
        "above_zero": interval.low > 0,
    }


def schedule_of(
    trials: Sequence[TrialRecord], settings: MixSettings = DEFAULTS, decisions: int = 0
) -> MixSchedule:
    """Flatten what the agent chose on held-out tasks: at each epoch, its most frequent choice.

    The policy looks at the training and a schedule cannot, so each kind of task has its own; the
    one for all kinds is what most training runs had.

    Args:
        trials: Of all contestants.
        settings: How their actions were carried out, which goes with the schedule.
        decisions: Choices of an episode, each for an equal share of its epochs; the schedule has a
            row for each then. 0: a row for each epoch.
    """
    plays: dict[str, list[Sequence[str]]] = {}
    for trial in trials:
        if trial["kind"] == "agent":
            mixes = trial["mixes"]
            starts = decision_starts(len(mixes), decisions, 1)
            plays.setdefault(trial["task"], []).append([mixes[start] for start in starts])
    return MixSchedule(
        _majority([play for own in plays.values() for play in own]),
        {kind: _majority(own) for kind, own in plays.items()},
        settings,
    )


def _majority(plays: Sequence[Sequence[str]]) -> list[MixAction]:
    return [
        MixAction.parse(Counter(epoch).most_common(1)[0][0]) for epoch in zip(*plays, strict=True)
    ]


def interval_of(
    scores: np.ndarray, statistic: stats.Statistic, settings: RunSettings
) -> stats.Interval:
    """Return a statistic of a score table with the interval that a run's settings ask for.

    Args:
        scores: (kinds, seeds), or (draws, runs) where tasks are drawn.
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
    """Return the scores of each task's best choice on average, (tasks, runs).

    Args:
        choices: (choices, tasks, runs).
    """
    best = choices.mean(2).argmax(0)
    return choices[best, np.arange(choices.shape[1])]


def cross_fitted(choices: np.ndarray) -> np.ndarray:
    """Return, for each training, the score of the choice that is best on the task's others.

    Args:
        choices: (choices, tasks, runs), two runs or more.
    """
    others = choices.sum(2, keepdims=True) - choices
    return np.take_along_axis(choices, others.argmax(0)[None], axis=0)[0]


def oracle_of(
    tables: Mapping[str, np.ndarray], fixed: Sequence[str], best: str | None, settings: RunSettings
) -> dict[str, Any]:
    """Return the regret of each contestant to both oracles, the agent's in shares of the best too.

    Args:
        tables: Scores of each contestant, (tasks, runs).
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
    means = {
        name: _plain_interval(interval_of(r, stats.mean, settings)) for name, r in regrets.items()
    }
    return {
        "score": float(oracle.mean()),
        "regret": means,
        "ratio": _ratio(regrets, means, best, settings),
    }


def _ratio(
    regrets: Mapping[str, np.ndarray],
    means: Mapping[str, dict[str, Any]],
    best: str | None,
    settings: RunSettings,
) -> dict[str, Any] | None:
    """Return the agent's regret over the best choice's, where that is surely above zero."""
    if "agent" not in regrets or best is None or means[best]["ci95"][0] <= 0:
        return None
    pairs = np.stack([regrets["agent"], regrets[best]], axis=-1)
    return _plain_interval(interval_of(pairs, stats.ratio, settings))


def _plain_interval(interval: stats.Interval) -> dict[str, Any]:
    return {"mean": interval.value, "ci95": interval.bounds}
