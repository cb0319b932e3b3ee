"""What trials are worth: score and interval of each contestant, paired differences, regret."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from automix.agents.config.draws import cells_of
from automix.agents.config.settings import RunSettings
from automix.agents.contest import stats
from automix.agents.contest.compare import Trial
from automix.agents.contest.controls import SearchResult
from automix.agents.contest.oracle import interval_of, oracle_of
from automix.mixing.actions import MixAction
from automix.mixing.batch import DEFAULTS, MixSettings
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
    trials: Sequence[Trial],
    settings: RunSettings,
    epochs_learning: int = 0,
    passes: int = 0,
    found: Mapping[str, SearchResult] | None = None,
    picked: Picked | None = None,
) -> dict[str, Any]:
    """Turn trials into the table: score and interval of each, and the agent's paired differences.

    Args:
        trials: As ``compare`` returns them.
        settings: Resamples and seed of the bootstrap; epochs of a training.
        epochs_learning: Classifier epochs that the agent's learning cost.
        passes: Forward and backward passes of the same.
        found: What the controls found, and what that cost.
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
    searched = dict(found or {})
    _charge(rows, epochs_learning, passes, searched)
    fixed = [row["name"] for row in rows if row["kind"] == "fixed"]
    picked = picked or _picked_here(rows)
    best = picked.name if picked else None
    minus = {
        name: _difference(tables["agent"], tables[name], settings)
        for name in names
        if "agent" in tables and name != "agent"
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
        "enough": enough,
        "not_beaten": [name for name, told in minus.items() if not (enough and told["above_zero"])],
        "oracle": oracle_of(tables, fixed, best, settings) if len(fixed) > 1 else None,
        "found": {name: [str(a) for a in one.schedule] for name, one in searched.items()},
    }


def score_table(
    trials: Sequence[Trial], name: str, drawn: bool = False, key: str = "test_accuracy"
) -> np.ndarray:
    """Return one contestant's scores in the order of the trials.

    Args:
        trials: As ``compare`` returns them.
        name: Of the contestant.
        drawn: Whether tasks were drawn from a family: each seed is a task then.
        key: What to collect.

    Returns:
        (kinds, seeds), or (draws, trainings).
    """
    rows: dict[object, list[float]] = {}
    for trial in trials:
        if trial["contestant"] == name:
            rows.setdefault(trial["seed" if drawn else "task"], []).append(trial[key])
    return np.array(list(rows.values()))


def _task_names(trials: Sequence[Trial], settings: RunSettings) -> list[str]:
    """Return kinds as they came, or the cells that have draws, from easy to hard."""
    met = dict.fromkeys(trial["task"] for trial in trials)
    return [t for t in cells_of(settings.task) if t in met] if settings.compare.draws else [*met]


def _row(
    scores: np.ndarray, tasks: Sequence[str], trials: Sequence[Trial], settings: RunSettings
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
        "epochs_spent": int(scores.size) * settings.trainer.epochs,
        "passes": sum(t["forward_passes"] + t["backward_passes"] for t in trials),
    }


def _mean_top5(trials: Sequence[Trial]) -> float | None:
    """Return the mean top-5 accuracy; None where there are too few classes for one."""
    values = [t["test_top5"] for t in trials]
    return None if None in values else float(np.mean(values))


def _charge(
    rows: Sequence[dict[str, Any]], epochs: int, passes: int, found: Mapping[str, SearchResult]
) -> None:
    """Add what learning and searching cost to those for whom it was done."""
    for row in rows:
        if row["kind"] == "agent":
            row["epochs_spent"] += epochs
            row["passes"] += passes
        if row["name"] in found:
            row["epochs_spent"] += found[row["name"]].classifier_epochs
            row["passes"] += found[row["name"]].passes


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


def schedule_of(trials: Sequence[Trial], settings: MixSettings = DEFAULTS) -> MixSchedule:
    """Flatten what the agent played on held-out tasks: at each epoch, its most frequent choice.

    The policy looks at the training and a schedule cannot, so each kind of task has its own; the
    one for all kinds is what most trials played.

    Args:
        trials: Of all contestants.
        settings: How their actions were carried out, which goes with the schedule.
    """
    plays = [trial for trial in trials if trial["kind"] == "agent"]
    kinds = dict.fromkeys(trial["task"] for trial in plays)
    return MixSchedule(
        _majority([t["mixes"] for t in plays]),
        {kind: _majority([t["mixes"] for t in plays if t["task"] == kind]) for kind in kinds},
        settings,
    )


def _majority(plays: Sequence[Sequence[str]]) -> list[MixAction]:
    return [
        MixAction.parse(Counter(epoch).most_common(1)[0][0]) for epoch in zip(*plays, strict=True)
    ]
