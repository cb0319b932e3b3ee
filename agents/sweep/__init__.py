"""Sweeps: many trials of ``train``, over many values, cores and machines; nothing is lost.

``plan`` turns words into trials, ``folder`` and ``ledger`` remember, an executor runs them
(``ray_executor``), ``driver`` watches, ``results`` and ``importance`` judge, ``page`` shows.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from automix.agents.runs.rundir import announce
from automix.agents.sweep.driver import Executor, Progress, drive, rows_of, settle
from automix.agents.sweep.folder import SweepDirectory, open_sweep, read_sweep
from automix.agents.sweep.importance import importance_of
from automix.agents.sweep.job import Job, at_home, train
from automix.agents.sweep.plan import SweepPlan, check_trials, default_path, plan_of
from automix.agents.sweep.ray_executor import at_once_on_this_machine, on_ray
from automix.agents.sweep.results import Row, Setting, lead_of, settings_of, write_summary
from automix.agents.sweep.screen import shown
from automix.agents.sweep.search_plan import search_name
from automix.core.errors import DataError
from automix.core.files import write_text

Executors = Callable[[SweepPlan, SweepDirectory, Job], AbstractContextManager[Executor]]

log = logging.getLogger("automix")


def run_sweep(
    words: Sequence[str],
    path: Path | None = None,
    overwrite: bool = False,
    *,
    job: Job = train,
    executors: Executors = on_ray,
) -> dict[str, Any]:
    """Run every combination of the words that has no result yet, and report.

    Args:
        words: As ``plan_of`` takes them.
        path: The sweep's directory; one is named after the words if there is none. A sweep that
            is there already is gone on with.
        overwrite: Begin anew instead.
        job: The work of a trial.
        executors: Where trials run.

    Returns:
        The best setting, every setting, importance of each parameter, and what failed.

    Raises:
        AutomixError: If a combination cannot run, or the sweep cannot start. Failed trials raise
            nothing: they are told of in what is returned.
    """
    if search_name(words) != "grid":
        from automix.agents.sweep.search import run_search

        return run_search(words, path, overwrite)
    plan = plan_of(words)
    return _run(plan, path or default_path(plan), overwrite, job, executors)


def resume_sweep(path: Path, *, job: Job = train, executors: Executors = on_ray) -> dict[str, Any]:
    """Go on with a sweep, from nothing but its directory; see ``run_sweep``.

    Raises:
        DataError: If it is no sweep, or its words make other trials than they did.
    """
    path = path.absolute()
    described = read_sweep(path)
    with at_home(Path(described["home"])):
        if search_name(described["words"]) != "grid":
            from automix.agents.sweep.search import resume_search

            return resume_search(path, described["words"])
        plan = plan_of(described["words"])
        if [trial.hash for trial in plan.trials] != described["trials"]:
            raise DataError(
                f"{path}: its words make other trials now than when it began; configs/ has changed",
                "give the sweep command again: finished trials of equal settings are kept",
            )
        return _run(plan, path, False, job, executors)


def _run(
    plan: SweepPlan, path: Path, overwrite: bool, job: Job, executors: Executors
) -> dict[str, Any]:
    start, path = time.monotonic(), path.absolute()
    if not plan.ray.address:
        at_once_on_this_machine(plan)  # before anything is made: it may not hold a single trial
    check_trials(plan)
    with open_sweep(path, plan, overwrite) as directory:
        announce(path, f"python run.py resume {path}   (goes on, however this ends)")
        progress = Progress(plan.trials, settled=settle(plan.trials, directory))
        waiting = [trial for trial in plan.trials if trial.hash not in progress.settled]
        if progress.settled:
            log.info("%d of %d trials have finished", len(progress.settled), len(plan.trials))
        try:
            if waiting:
                with (
                    executors(plan, directory, job) as executor,
                    shown(directory, plan.settings.metric) as show,
                ):
                    drive(
                        waiting, directory, executor, progress, plan.settings.max_concurrent, show
                    )
            result = _conclude(plan, directory, time.monotonic() - start)
        except BaseException as error:
            directory.broken_off(error, trials=len(plan.trials))
            write_summary(
                directory.path / "summary.csv", rows_of(plan.trials, directory), plan.keys
            )
            raise
        counts = {"trials": len(plan.trials), "failed": len(result["failed"])}
        directory.status("failed" if result["failed"] else "finished", **counts)
    return result


def _conclude(plan: SweepPlan, directory: SweepDirectory, wall_s: float) -> dict[str, Any]:
    """Write summary and page; return what the command prints."""
    # Here, not above: matplotlib takes a second to import, which no other command should wait for.
    from automix.agents.sweep.page import Sweep, render

    rows = rows_of(plan.trials, directory)
    settings = settings_of(rows, plan.settings.metric)
    lead, importance = lead_of(settings), importance_of(settings)
    write_summary(directory.path / "summary.csv", rows, plan.keys)
    sweep = Sweep(
        name=directory.path.name,
        command=(directory.path / "command.txt").read_text(encoding="utf-8").strip(),
        resume=f"python run.py resume {directory.path}",
        metric=plan.settings.metric,
        keys=plan.keys,
        rows=rows,
        settings=settings,
        lead=lead,
        importance=importance,
    )
    page, pictures = render(sweep)
    for picture in pictures:
        write_text(directory.path / "report" / f"{picture.name}.svg", picture.svg)
    write_text(directory.path / "report" / "index.html", page)
    return {
        "sweep": str(directory.path),
        "metric": plan.settings.metric,
        "trials": len(rows),
        "finished": sum(row.figures is not None for row in rows),
        "failed": [_failure(row, directory) for row in rows if row.state == "failed"],
        "settings": [_told(setting) for setting in settings],
        "lead": lead,
        "importance": [
            {"key": one.key, "share": one.share, "by_chance": one.by_chance, "means": one.means}
            for one in importance
        ],
        "wall_s": round(wall_s, 1),
    }


def _failure(row: Row, directory: SweepDirectory) -> dict[str, str]:
    return {
        "trial": row.trial.hash,
        "words": str(row.trial),
        "error": row.error,
        "log": str(directory.path / row.log) if row.log else "",
    }


def _told(setting: Setting) -> dict[str, Any]:
    return {
        "values": dict(setting.values),
        "val_accuracy": setting.value,
        "ci95": list(setting.interval) if setting.interval else None,
        "n": setting.n,
        "test_accuracy": setting.test_accuracy,
    }
