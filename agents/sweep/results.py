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
from automix.agents.sweep.folder import FIGURES, SweepDirectory
from automix.agents.sweep.planning.plan import SEED, SweepPlan, SweepTrial, text_of
from automix.core.files import write_text

RESAMPLES = 4000


@dataclass(frozen=True)
class Row:
    """One trial in ``summary.csv``.

    Attributes:
        trial: Which.
        state: The last event of it: ``planned``, ``started``, ``finished``, ``failed`` and so on.
        figures: If it is over: of its comparison in a grid, of its last slice in a search.
        wall_s: Seconds of its last attempt, where known.
        retries: How often its process or machine died.
        update: That it came to in a search, where known.
        copies: How often it has copied a better trial.
        failures: Records of what went wrong; in a population, a trial may go on after it.
    """

    trial: SweepTrial
    state: str
    figures: Mapping[str, float] | None
    wall_s: float | None = None
    retries: int = 0
    update: int | None = None
    copies: int = 0
    failures: Sequence[Mapping[str, Any]] = ()

    @property
    def error(self) -> str:
        """The last that went wrong, if anything did."""
        return self.failures[-1]["error"] if self.failures else ""

    @property
    def log(self) -> str:
        """The log of it, below the sweep's directory; may be empty."""
        return self.failures[-1]["log"] if self.failures else ""

    @property
    def cells(self) -> dict[str, Any]:
        """All of it, by column."""
        wall = "" if self.wall_s is None else f"{self.wall_s:.1f}"
        rest = {"wall_s": wall, "retries": self.retries, "update": self.update}
        rest |= {"copies": self.copies, "error": cell(self.error)}
        values = {key: cell(value) for key, value in self.trial.values.items()}
        return {"trial": self.trial.hash, **values, "state": self.state, **rest} | dict(
            self.figures or {}
        )


def rows_of(plan: SweepPlan, directory: SweepDirectory) -> list[Row]:
    """Return what is known of every trial, from its directory and from the ledger."""
    records: dict[str, list[dict[str, Any]]] = {}
    for record in directory.ledger.records():
        records.setdefault(record["trial"], []).append(record)
    return [_row(plan, trial, records.get(trial.hash, []), directory) for trial in plan.trials]


def _row(
    plan: SweepPlan,
    trial: SweepTrial,
    records: Sequence[Mapping[str, Any]],
    directory: SweepDirectory,
) -> Row:
    last: Mapping[str, Any] = records[-1] if records else {"event": "planned"}
    state, events = last["event"], [record["event"] for record in records]
    if plan.settings.searches:
        figures = last["figures"] if state in ("finished", "stopped") else None
    else:
        figures = directory.figures(trial.hash)
        # Finished by the ledger alone: its directory is gone, so it will run again.
        state = "finished" if figures else "planned" if state == "finished" else state
    # Outside a population, what was mended since has failed no more.
    failures = [last] if state == "failed" else []
    if plan.settings.population:
        failures = [record for record in records if record["event"] == "failed"]
    return Row(
        trial,
        state,
        figures,
        wall_s=last.get("wall_s"),
        retries=events.count("retried"),
        update=last.get("update"),
        copies=events.count("copied"),
        failures=failures,
    )


def best_row(rows: Sequence[Row], metric: str) -> Row | None:
    """Return the best of the trials that have learned to the end; None if none has."""
    finished = [row for row in rows if row.state == "finished"]
    return max(finished, key=lambda row: _figure(row, metric), default=None)


def ranking_of(rows: Sequence[Row], metric: str) -> list[dict[str, Any]]:
    """Return what there is to tell of a search's trials, best first."""
    found = [
        {
            "trial": row.trial.hash,
            "values": dict(row.trial.values),
            "state": row.state,
            "update": row.update,
            metric: row.figures[metric] if row.figures else None,
            "copies": row.copies,
        }
        for row in rows
    ]
    return sorted(found, key=lambda one: (-(one["update"] or 0), -(one[metric] or 0.0)))


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
        """Return its values; a sweep over nothing but seeds has none."""
        return text_of(self.values) or "all seeds"


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


def lead_of(settings: Sequence[Setting]) -> dict[str, Any] | None:
    """Return how far the best setting is ahead of the next, paired by seed; None where unknown."""
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


def write_summary(path: Path, rows: Sequence[Row], plan: SweepPlan) -> None:
    """Write ``summary.csv``: a row a trial, in the order of the plan."""
    columns = [*FIGURES, "wall_s", "retries"]
    if plan.settings.searches:
        columns = ["update", plan.settings.metric, "copies"]
    text = io.StringIO()
    writer = csv.DictWriter(
        text,
        ["trial", *plan.keys, "state", *columns, "error"],
        extrasaction="ignore",
        lineterminator="\n",
    )
    writer.writeheader()
    writer.writerows(row.cells for row in rows)
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
