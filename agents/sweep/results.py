"""What the trials of a sweep are worth: rows, the best setting, and where each figure is from.

Validation decides, seeds are repeats, and test figures are only shown beside.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from automix.agents.contest import stats
from automix.agents.sweep.plan import SEED, SweepTrial
from automix.core.files import write_text

RESAMPLES = 4000

FIGURES = ("val_accuracy", "test_accuracy", "test_ece", "epochs_spent")
"""Of the agent in a trial, means over its compared trainings; the last is what learning and playing
cost in classifier epochs."""


def figures_of(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of the contestant ``agent`` in a ``result.json``."""
    row = next(row for row in result["contestants"] if row["name"] == "agent")
    return {
        "val_accuracy": row["val_accuracy"],
        "test_accuracy": row["mean"],
        "test_ece": row["ece"],
        "epochs_spent": row["epochs_spent"],
    }


@dataclass(frozen=True)
class Row:
    """One trial in ``summary.csv``.

    Attributes:
        trial: Which.
        state: ``finished``, ``failed``, ``interrupted``, ``started`` or ``planned``.
        figures: If it has finished.
        wall_s: Seconds of its last attempt, where known.
        retries: How often its process or machine died.
        error: If it failed.
        log: Where more is told of that, below the sweep's directory; may be empty.
    """

    trial: SweepTrial
    state: str
    figures: Mapping[str, float] | None
    wall_s: float | None
    retries: int
    error: str
    log: str


@dataclass(frozen=True)
class Setting:
    """A combination of values, over its seeds.

    Attributes:
        values: What was swept, but for the seed.
        value: Mean of the metric over seeds.
        interval: 95 %, from a bootstrap over seeds; None with a single one.
        test_accuracy: Mean over seeds; shown, never used.
        seeds: Metric by seed.
    """

    values: Mapping[str, str]
    value: float
    interval: tuple[float, float] | None
    test_accuracy: float
    seeds: Mapping[str, float]

    @property
    def n(self) -> int:
        """Trials behind the mean."""
        return len(self.seeds)

    def __str__(self) -> str:
        """Return its words."""
        return words_of(self.values)


def settings_of(rows: Sequence[Row], metric: str) -> list[Setting]:
    """Return the settings that have a finished trial, best mean first."""
    groups: dict[tuple[tuple[str, str], ...], list[Row]] = {}
    for row in rows:
        if row.figures is not None:
            groups.setdefault(tuple(parameters(row.trial).items()), []).append(row)
    found = [_setting(dict(values), group, metric) for values, group in groups.items()]
    return sorted(found, key=lambda setting: -setting.value)


def parameters(trial: SweepTrial) -> dict[str, str]:
    """Return what was chosen for a trial, but for the seed."""
    return {key: value for key, value in trial.values.items() if key != SEED}


def words_of(values: Mapping[str, str]) -> str:
    """Return values as words; a sweep over nothing but seeds has none."""
    return " ".join(f"{key}={value}" for key, value in values.items()) or "all seeds"


def lead_of(settings: Sequence[Setting]) -> dict[str, Any] | None:
    """Return how far the best setting is ahead of the next, paired by seed; None where untold."""
    if len(settings) < 2:
        return None
    first, second = settings[:2]
    seeds = [seed for seed in first.seeds if seed in second.seeds]
    if len(seeds) < 2:
        return None
    differences = np.array([[first.seeds[seed] - second.seeds[seed] for seed in seeds]])
    found = stats.stratified_bootstrap(differences, stats.mean, resamples=RESAMPLES, seed=0)
    return {
        "over": str(second),
        "mean": found.value,
        "ci95": found.bounds,
        "n": len(seeds),
        "enough": len(seeds) >= stats.FEWEST_PAIRS,
    }


def write_summary(path: Path, rows: Sequence[Row], keys: Sequence[str]) -> None:
    """Write ``summary.csv``: a row a trial, in the order of the plan."""
    columns = ["trial", *keys, "state", *FIGURES, "wall_s", "retries", "error"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        figures = [row.figures[name] if row.figures else "" for name in FIGURES]
        wall = "" if row.wall_s is None else f"{row.wall_s:.1f}"
        values = [cell(row.trial.values.get(key, "")) for key in keys]
        last = [wall, row.retries, cell(row.error)]
        writer.writerow([row.trial.hash, *values, row.state, *figures, *last])
    write_text(path, text.getvalue())


def _setting(values: Mapping[str, str], rows: Sequence[Row], metric: str) -> Setting:
    by_seed = {row.trial.values.get(SEED, ""): _figure(row, metric) for row in rows}
    scores = np.array([list(by_seed.values())])
    interval = None
    if scores.size > 1:
        found = stats.stratified_bootstrap(scores, stats.mean, resamples=RESAMPLES, seed=0)
        interval = found.low, found.high
    test = mean(_figure(row, "test_accuracy") for row in rows)
    return Setting(values, float(scores.mean()), interval, test, by_seed)


def _figure(row: Row, name: str) -> float:
    assert row.figures is not None
    return row.figures[name]


def cell(text: str) -> str:
    """Return text that no spreadsheet takes for a formula."""
    formula = text[:1] in ("=", "+", "-", "@", "\t", "\r") and not _is_number(text)
    return f"'{text}" if formula else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
