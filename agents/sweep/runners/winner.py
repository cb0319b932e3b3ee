"""The winner of a search as a run: its policy exported, and compared on held-out tasks."""

from __future__ import annotations

import logging
import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from automix.agents.config.settings import RunSettings
from automix.agents.jobs.run import resume
from automix.agents.learning.recorder import METRICS
from automix.agents.runs.rundir import RunDirectory, called_as
from automix.agents.sweep.folder import (
    BEST,
    SCHEDULE,
    SUMMARY,
    WINNER,
    SweepDirectory,
    figures_of,
)
from automix.agents.sweep.planning.plan import SweepPlan
from automix.agents.sweep.planning.schedule import Schedule, write_schedule
from automix.agents.sweep.results import best_row, rows_of, write_summary
from automix.agents.sweep.runners.job import at_home, share_gpu
from automix.agents.sweep.runners.slices import STATE, folder_of, name_of, segments_of
from automix.core.files import read_json, write_json, write_yaml

FROM = "learned_in.json"

Finish = Callable[[Path, RunSettings, Sequence[str], Path, Path, float], dict[str, Any]]
"""As ``complete``."""

log = logging.getLogger("automix")


def crowned(plan: SweepPlan, directory: SweepDirectory, finish: Finish) -> dict[str, Any] | None:
    """Make a run of the best trial, and write how it came about.

    Returns:
        The trial, its values and figures, and the command that makes the same run again; None if
        no trial has learned to the end.
    """
    path, metric = directory.path, plan.settings.metric
    rows = rows_of(plan, directory)
    write_summary(path / SUMMARY, rows, plan)
    best = best_row(rows, metric)
    if best is None or best.figures is None:
        return None
    part = folder_of(directory.trial(best.trial.hash), plan.updates)
    segments = segments_of(part)
    values = dict(segments[-1].values)
    overrides = plan.space.overrides_with(values)
    command = ["train", *overrides]
    if plan.settings.population:
        write_schedule(path / SCHEDULE, Schedule(plan.space.fixed, plan.updates, segments))
        command = ["sweep", "sweep.search=replay", f"sweep.replay={path / SCHEDULE}"]
    elif plan.schedule:
        command = ["sweep", *plan.overrides]
    found = {
        "search": plan.settings.search,
        "trial": best.trial.hash,
        metric: best.figures[metric],
        "values": values,
        "words": overrides,
        "command": f"python run.py {shlex.join(command)}",
        "run": str(path / BEST),
    }
    write_yaml(path / WINNER, found)
    log.info("best: trial %s; it is compared on held-out tasks now", best.trial.hash)
    gpus, settings = plan.settings.gpus_per_trial, plan.settings_with(values)
    result = finish(part, settings, command, path / BEST, Path.cwd(), gpus)
    return found | {"figures": figures_of(result)}


def complete(
    part: Path, settings: RunSettings, command: Sequence[str], path: Path, home: Path, gpus: float
) -> dict[str, Any]:
    """Make a run of what a last slice has learned, and finish it as ``train`` does.

    Args:
        part: Folder of the slice.
        settings: Of the slice.
        command: That makes the same run.
        path: Of the run; one that was begun from the same slice goes on.
        home: Where the search was started.
        gpus: As ``run_trial`` takes it.

    Returns:
        The content of ``result.json``.
    """
    with at_home(home), called_as(command):
        share_gpu(gpus)
        if not _made_from(part, path):
            _make(part, settings, path)
        return resume(path)


def _made_from(part: Path, path: Path) -> bool:
    file = path / FROM
    return file.is_file() and read_json(file) == name_of(part)


def _make(part: Path, settings: RunSettings, path: Path) -> None:
    """Make a run directory as a run has it that was interrupted after its last update."""
    # Under another name until it is whole: without the checkpoint it would learn by itself.
    making = path.with_name(f".{path.name}")
    for old in (making, path):
        if old.exists():
            shutil.rmtree(old)
    directory = RunDirectory.create(making, settings, overwrite=False, job="train")
    for checkpoint in (part / STATE).glob("step_*"):
        shutil.copytree(checkpoint, making / "checkpoints" / checkpoint.name)
    shutil.copyfile(part / METRICS, making / METRICS)
    write_json(making / FROM, name_of(part))
    directory.status("interrupted")
    making.rename(path)
