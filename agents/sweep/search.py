"""Searches: weak trials end early (asha) or copy strong ones (pbt, pb2).

``search_plan`` and ``space`` turn words into trials, ``slices`` learn, ``search_trial`` holds a
trial, ``ray_tune`` decides, ``search_watch`` hears, ``search_results`` and ``lineage`` tell what
came out and how, ``winner`` makes a run of the best, ``replay`` learns as it did.
"""

from __future__ import annotations

import logging
import secrets
import shlex
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from automix.agents.sweep.folder import SweepDirectory
from automix.agents.sweep.lineage import Schedule, segments_of, write_schedule
from automix.agents.sweep.ray_executor import at_once_on_this_machine
from automix.agents.sweep.ray_tune import STORAGE, on_tune
from automix.agents.sweep.replay import run_replay
from automix.agents.sweep.results import figures_of
from automix.agents.sweep.search_folder import (
    BEST_WORDS,
    RESULT,
    SCHEDULE,
    SUMMARY,
    open_search,
    result_of,
)
from automix.agents.sweep.search_plan import (
    SearchPlan,
    search_name,
    search_path,
    search_plan_of,
    words_with,
)
from automix.agents.sweep.search_results import (
    best_row,
    rows_of_search,
    told_of,
    write_search_summary,
)
from automix.agents.sweep.search_trial import METRIC, Place
from automix.agents.sweep.search_watch import SearchWatch
from automix.agents.sweep.slices import chain_of, folder_of
from automix.agents.sweep.winner import BEST, Finish
from automix.core.files import write_json, write_yaml

Run = Callable[[SearchPlan, Place, SearchWatch], None]
"""Runs all trials to their ends."""

Runners = Callable[[SearchPlan], AbstractContextManager[tuple[Run, Finish]]]
"""Has, while the block runs, what runs the trials and what makes a run of the winner."""

log = logging.getLogger("automix")


def run_search(
    words: Sequence[str],
    path: Path | None = None,
    overwrite: bool = False,
    *,
    runners: Runners = on_tune,
) -> dict[str, Any]:
    """Search, or go on with a search, and make a run of what was best.

    Args:
        words: As ``search_plan_of`` takes them.
        path: The search's directory; one is named after the words if there is none.
        overwrite: Begin anew.
        runners: Where trials run.

    Returns:
        The best trial, every trial, and what failed.

    Raises:
        AutomixError: If the search cannot run. Failed trials raise nothing: they are told of in
            what is returned.
    """
    if search_name(words) == "replay":
        return run_replay(words, path, overwrite)
    plan = search_plan_of(words)
    path = (path or search_path(plan)).absolute()
    if not plan.ray.address:
        at_once_on_this_machine(plan)  # before anything is made: it may not hold a single trial
    with open_search(path, plan, overwrite) as directory:
        result = result_of(directory, lambda: _searched(plan, directory, runners))
        failed = len(result["failed"])
        state = "failed" if failed else "finished"
        directory.status(state, trials=len(plan.trials), failed=failed)
    return result


def resume_search(path: Path, words: Sequence[str]) -> dict[str, Any]:
    """Go on with a search, from nothing but its directory; see ``run_search``.

    Args:
        path: Absolute; called where the search was started.
        words: That it was started with.
    """
    # The schedule that a replay was given may be gone; it has its own.
    here = f"sweep.replay={path / SCHEDULE}"
    replays = search_name(words) == "replay" and (path / SCHEDULE).is_file()
    rest = [w for w in words if not (replays and w.startswith("sweep.replay="))]
    return run_search([*rest, *([here] if replays else [])], path)


def _searched(plan: SearchPlan, directory: SweepDirectory, runners: Runners) -> dict[str, Any]:
    start, path = time.monotonic(), directory.path
    for leftover in path.glob(f"{STORAGE}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    watch = SearchWatch(plan, directory)
    try:
        with runners(plan) as (run, finish):
            if not watch.all_over:
                run(plan, _place(plan, directory), watch)
            result = conclude(plan, directory, finish)
    except BaseException as error:
        watch.interrupted()
        directory.broken_off(error)
        write_search_summary(path / SUMMARY, rows_of_search(plan, directory), plan.keys)
        raise
    result["wall_s"] = round(time.monotonic() - start, 1)
    if plan.population or not result["failed"]:
        # What failed in a population has had its effect; alone, it may be tried again.
        write_json(path / RESULT, result)
    return result


def conclude(plan: SearchPlan, directory: SweepDirectory, finish: Finish) -> dict[str, Any]:
    """Make a run of the winner, write how it came about, and return what there is to tell."""
    path = directory.path
    rows = rows_of_search(plan, directory)
    write_search_summary(path / SUMMARY, rows, plan.keys)
    best = best_row(rows)
    if best is None:
        return told_of(plan, directory, rows) | {"best": None}
    part = folder_of(directory.trial(best.trial.hash), plan.updates)
    segments = segments_of(chain_of(part))
    values = dict(segments[-1].values)
    words = words_with(plan.space.fixed, values)
    command = ["train", *words]
    if plan.population:
        write_schedule(path / SCHEDULE, Schedule(plan.space.fixed, plan.updates, segments))
        command = ["sweep", "sweep.search=replay", f"sweep.replay={path / SCHEDULE}"]
    told = {
        "search": plan.settings.search,
        "trial": best.trial.hash,
        METRIC: best.score,
        "values": values,
        "words": words,
        "command": f"python run.py {shlex.join(command)}",
        "run": str(path / BEST),
    }
    write_yaml(path / BEST_WORDS, told)
    log.info("best: trial %s; it is compared on held-out tasks now", best.trial.hash)
    gpus = plan.settings.gpus_per_trial
    settings = plan.settings_with(values)
    result = finish(part, settings, command, path / BEST, Path.cwd(), gpus)
    return told_of(plan, directory, rows) | {"best": told | {"figures": figures_of(result)}}


def _place(plan: SearchPlan, directory: SweepDirectory) -> Place:
    last = directory.ledger.last()
    stopped = frozenset(name for name, record in last.items() if record["event"] == "stopped")
    return Place(plan, directory.path, Path.cwd(), secrets.token_hex(8), stopped)
