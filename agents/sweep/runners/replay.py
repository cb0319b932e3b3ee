"""A search's winner once more: it learns by the schedule, with any seed, without a population."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from automix.agents.config.settings import RunSettings
from automix.agents.learning.training import Stop, Stopped, never, trainings_of
from automix.agents.parallel.devices import choose_device
from automix.agents.parallel.pool import start_workers
from automix.agents.runs.stopping import stop, stopping
from automix.agents.sweep.folder import SCHEDULE, SweepDirectory
from automix.agents.sweep.planning.plan import SweepPlan
from automix.agents.sweep.planning.schedule import Schedule, write_schedule
from automix.agents.sweep.runners.job import error_line
from automix.agents.sweep.runners.slices import Slice, Trainings, learn_slice, thin_out
from automix.agents.sweep.runners.winner import complete, crowned
from automix.agents.sweep.watch import Watch, watching


def run_replay(plan: SweepPlan, directory: SweepDirectory) -> dict[str, Any] | None:
    """Learn by the plan's schedule in this process, or go on with that, and make a run of it."""
    assert plan.schedule is not None
    (trial,) = plan.trials
    # The schedule that was given may be gone when the replay is resumed.
    write_schedule(directory.path / SCHEDULE, plan.schedule)
    watch = Watch(plan, directory)
    with watching(watch):
        watch.note("started", trial.hash)
        try:
            ended = _learned(plan, directory.trial(trial.hash)).ended() or {}
        except Exception as error:
            watch.note("failed", trial.hash, error=error_line(error), log="")
            watch.ended(trial.hash)
            raise
        watch.note("finished", trial.hash, update=plan.updates, figures=ended)
    return crowned(plan, directory, complete)


def learn_along(
    folder: Path,
    schedule: Schedule,
    settings_with: Callable[[Mapping[str, str]], RunSettings],
    trainings: Trainings,
    stop: Stop = never,
) -> Slice:
    """Learn a whole learning by a schedule, or what is left of it, and return its last slice.

    Args:
        folder: Of the trial.
        schedule: Which values hold when.
        settings_with: From values to settings.
        trainings: Builds environments.
        stop: As ``learn`` takes it.

    Raises:
        Stopped: As ``learn`` does.
    """
    parts: list[Slice] = []
    ends = [*(one.update for one in schedule.segments[1:]), schedule.updates]
    for segment, until in zip(schedule.segments, ends, strict=True):
        origin = parts[-1].folder if parts else None
        settings = settings_with(segment.values)
        parts.append(Slice(folder, origin, segment.values, settings, until))
        if parts[-1].ended() is None:
            learn_slice(parts[-1], trainings, stop)
            thin_out(folder, until)
    return parts[-1]


def _learned(plan: SweepPlan, folder: Path) -> Slice:
    assert plan.schedule is not None
    settings = plan.trials[0].settings
    device = choose_device(settings.device)
    with (
        start_workers(settings.workers, settings.threads, device) as workers,
        stopping() as asked,
    ):
        trainings = partial(trainings_of, workers=workers, device=device)
        try:
            with asked.patiently():
                return learn_along(folder, plan.schedule, plan.settings_with, trainings, asked)
        except Stopped as stopped:
            stop(stopped.signal)
            raise
