"""What a search has found: a row for each trial, from the ledger."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automix.agents.sweep.folder import SweepDirectory
from automix.agents.sweep.plan import SweepTrial
from automix.agents.sweep.results import cell
from automix.agents.sweep.search_plan import SearchPlan
from automix.agents.sweep.search_trial import METRIC
from automix.core.files import write_text


@dataclass(frozen=True)
class SearchRow:
    """One trial in ``summary.csv``.

    Attributes:
        trial: Which, with the values that it started with.
        state: The last that happened to it: ``finished``, ``stopped``, ``failed`` and so on.
        update: That it came to, where known.
        score: Validation accuracy in its last slice, while it learned; None if it is not over.
        copies: How often it has taken over a better trial.
        failures: Records of what went wrong; in a population, a trial may go on after it.
    """

    trial: SweepTrial
    state: str
    update: int | None
    score: float | None
    copies: int
    failures: Sequence[dict[str, Any]]


def rows_of_search(plan: SearchPlan, directory: SweepDirectory) -> list[SearchRow]:
    """Return what the ledger knows of every trial."""
    records = directory.ledger.records()
    return [
        _row(trial, plan, [record for record in records if record["trial"] == trial.hash])
        for trial in plan.trials
    ]


def _row(trial: SweepTrial, plan: SearchPlan, records: Sequence[dict[str, Any]]) -> SearchRow:
    last = records[-1]
    failures = [record for record in records if record["event"] == "failed"]
    if not plan.population:
        # What was mended since has failed no more.
        failures = [last] if last["event"] == "failed" else []
    copies = sum(record["event"] == "copied" for record in records)
    score = last["figures"][METRIC] if last["event"] in ("finished", "stopped") else None
    return SearchRow(trial, last["event"], last.get("update"), score, copies, failures)


def best_row(rows: Sequence[SearchRow]) -> SearchRow | None:
    """Return the best of the trials that have learned to the end; None if none has."""
    finished = [row for row in rows if row.state == "finished" and row.score is not None]
    return max(finished, key=lambda row: row.score or 0.0, default=None)


def told_of(
    plan: SearchPlan, directory: SweepDirectory, rows: Sequence[SearchRow]
) -> dict[str, Any]:
    """Return what the command prints of the trials, best first."""
    ranked = sorted(rows, key=lambda row: (-(row.update or 0), -(row.score or 0.0)))
    return {
        "sweep": str(directory.path),
        "search": plan.settings.search,
        "metric": METRIC,
        "updates": plan.updates,
        "trials": len(rows),
        "finished": sum(row.state == "finished" for row in rows),
        "stopped": sum(row.state == "stopped" for row in rows),
        "failed": [
            {
                "trial": row.trial.hash,
                "words": str(row.trial),
                "error": failure["error"],
                "log": str(directory.path / failure["log"]),
            }
            for row in rows
            for failure in row.failures
        ],
        "ranking": [
            {
                "trial": row.trial.hash,
                "values": dict(row.trial.values),
                "state": row.state,
                "update": row.update,
                METRIC: row.score,
                "copies": row.copies,
            }
            for row in ranked
        ],
    }


def write_search_summary(path: Path, rows: Sequence[SearchRow], keys: Sequence[str]) -> None:
    """Write ``summary.csv``: a row a trial, in the order in which they were drawn."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", *keys, "state", "update", METRIC, "copies", "error"])
    for row in rows:
        values = [row.trial.values[key] for key in keys]
        error = row.failures[-1]["error"] if row.failures else ""
        update = "" if row.update is None else row.update
        score = "" if row.score is None else row.score
        writer.writerow(
            [row.trial.hash, *map(cell, values), row.state, update, score, row.copies, cell(error)]
        )
    write_text(path, text.getvalue())
