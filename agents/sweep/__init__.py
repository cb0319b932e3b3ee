"""Sweeps: many trials of ``train``, over many values, cores and machines; nothing is lost.

One way for all of them: ``planning`` turns overrides into trials, ``folder`` and ``ledger``
remember, ``watch`` shows, ``results`` and ``importance`` judge, ``page`` shows what came out. What
differs is how trials run: ``runners`` has one for a grid, one for searches, one for replays.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from automix.agents.runs.rundir import announce
from automix.agents.runs.stopping import sigterm_as_ctrl_c
from automix.agents.sweep.folder import (
    RESULT,
    SCHEDULE,
    SUMMARY,
    SweepDirectory,
    open_sweep,
    read_sweep,
)
from automix.agents.sweep.importance import importance_of
from automix.agents.sweep.planning.plan import (
    SweepPlan,
    at_once_here,
    check_trials,
    default_path,
    plan_of,
)
from automix.agents.sweep.results import (
    Row,
    Setting,
    lead_of,
    ranking_of,
    rows_of,
    settings_of,
    write_summary,
)
from automix.agents.sweep.runners.job import at_home
from automix.agents.sweep.runners.ray_grid import run_grid
from automix.agents.sweep.runners.replay import run_replay
from automix.agents.sweep.runners.search import run_search
from automix.core.errors import DataError
from automix.core.files import read_json, write_json

Runner = Callable[[SweepPlan, SweepDirectory], dict[str, Any] | None]
"""Runs all trials that are not over; returns the winner of a search."""

RUNNERS: dict[str, Runner] = {"grid": run_grid, "replay": run_replay}
"""All others are searches."""

log = logging.getLogger("automix")


def run_sweep(
    overrides: Sequence[str],
    path: Path | None = None,
    overwrite: bool = False,
    *,
    runner: Runner | None = None,
) -> dict[str, Any]:
    """Run every trial that has no result yet, and report.

    Args:
        overrides: As ``plan_of`` takes them.
        path: The sweep's directory; one is named after the overrides if there is none. A sweep that
            is there already is gone on with.
        overwrite: Begin anew instead.
        runner: How trials run, if not as ``sweep.search`` says.

    Returns:
        Of a grid, every setting, the best first, with the importance of each parameter; of a
        search, the best trial and the ranking of all; and what failed.

    Raises:
        AutomixError: If a trial cannot run, or the sweep cannot start. Failed trials raise nothing:
            they are in what is returned.
    """
    plan = plan_of(overrides)
    return _run(plan, path or default_path(plan), overwrite, runner)


def resume_sweep(path: Path, *, runner: Runner | None = None) -> dict[str, Any]:
    """Go on with a sweep, from nothing but its directory; see ``run_sweep``.

    Raises:
        DataError: If it is no sweep, or its overrides make other trials than they did.
    """
    path = path.absolute()
    described = read_sweep(path)
    overrides = described["words"]
    if (path / SCHEDULE).is_file():
        # The schedule that a replay was given may be gone; it has its own.
        own = f"sweep.replay={path / SCHEDULE}"
        overrides = [own if one.startswith("sweep.replay=") else one for one in overrides]
    with at_home(Path(described["home"])):
        plan = plan_of(overrides)
        if [trial.hash for trial in plan.trials] != described["trials"]:
            raise DataError(
                f"{path}: its overrides make other trials now than when it began; configurations or"
                " their form have changed",
                "give the sweep command again: finished trials of equal settings are kept; a search"
                " begins anew with --overwrite",
            )
        return _run(plan, path, False, runner)


def _run(plan: SweepPlan, path: Path, overwrite: bool, runner: Runner | None) -> dict[str, Any]:
    start, path = time.monotonic(), path.absolute()
    if not plan.ray.address:
        at_once_here(plan)  # before anything is made: it may not hold a single trial
    check_trials(plan)
    with open_sweep(path, plan, overwrite) as directory, sigterm_as_ctrl_c():
        if (path / RESULT).is_file():
            log.info("%s is finished", path)
            result = dict(read_json(path / RESULT))
        else:
            announce(path, f"python run.py resume {path}   (goes on, however this ends)")
            try:
                best = (runner or RUNNERS.get(plan.settings.search, run_search))(plan, directory)
                result = _concluded(plan, directory, best, time.monotonic() - start)
            except BaseException as error:
                directory.broken_off(error, trials=len(plan.trials))
                write_summary(path / SUMMARY, rows_of(plan, directory), plan)
                raise
        failed = len(result["failed"])
        state = "failed" if failed else "finished"
        directory.status(state, trials=len(plan.trials), failed=failed)
    return result


def _concluded(
    plan: SweepPlan, directory: SweepDirectory, best: dict[str, Any] | None, wall_s: float
) -> dict[str, Any]:
    """Write what came out; return what the command prints."""
    rows, metric = rows_of(plan, directory), plan.settings.metric
    write_summary(directory.path / SUMMARY, rows, plan)
    result = {
        "sweep": str(directory.path),
        "metric": metric,
        "trials": len(rows),
        "finished": sum(row.state == "finished" for row in rows),
        "failed": [one for row in rows for one in _failures(row, directory)],
    }
    if not plan.settings.searches:
        return result | _of_grid(plan, directory, rows) | {"wall_s": round(wall_s, 1)}
    result |= {
        "search": plan.settings.search,
        "updates": plan.updates,
        "stopped": sum(row.state == "stopped" for row in rows),
        "ranking": ranking_of(rows, metric),
        "best": best,
        "wall_s": round(wall_s, 1),
    }
    if plan.settings.population or not result["failed"]:
        # What failed in a population has had its effect; alone, it may be tried again.
        write_json(directory.path / RESULT, result)
    return result


def _of_grid(plan: SweepPlan, directory: SweepDirectory, rows: Sequence[Row]) -> dict[str, Any]:
    """Judge the settings of a grid, and write the page."""
    # Here, not above: matplotlib takes a second to import, which no other command should wait for.
    from automix.agents.sweep.page import write_page

    settings = settings_of(rows, plan.settings.metric)
    lead, importance = lead_of(settings), importance_of(settings)
    write_page(plan, directory, rows, settings, lead, importance)
    return {
        "settings": [_plain(setting) for setting in settings],
        "lead": lead,
        "importance": [
            {"key": one.key, "share": one.share, "by_chance": one.by_chance, "means": one.means}
            for one in importance
        ],
    }


def _failures(row: Row, directory: SweepDirectory) -> list[dict[str, str]]:
    return [
        {
            "trial": row.trial.hash,
            "words": str(row.trial),
            "error": one["error"],
            "log": str(directory.path / one["log"]) if one["log"] else "",
        }
        for one in row.failures
    ]


def _plain(setting: Setting) -> dict[str, Any]:
    return {
        "values": dict(setting.values),
        "val_accuracy": setting.value,
        "ci95": list(setting.interval) if setting.interval else None,
        "n": setting.n,
        "test_accuracy": setting.test_accuracy,
    }
