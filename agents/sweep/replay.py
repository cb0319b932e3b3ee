"""A search's winner once more: it learns by the schedule, with any seed, without a population."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from automix.agents.config.settings import RunSettings
from automix.agents.learning.training import Stop, Stopped, never, trainings_of
from automix.agents.parallel.devices import choose_device
from automix.agents.parallel.pool import start_workers
from automix.agents.runs.stopping import stop, stopping
from automix.agents.sweep.folder import SweepDirectory
from automix.agents.sweep.lineage import Schedule, read_schedule, write_schedule
from automix.agents.sweep.plan import SweepTrial, default_path, hash_of
from automix.agents.sweep.results import figures_of
from automix.agents.sweep.search_folder import RESULT, SCHEDULE, open_search, result_of
from automix.agents.sweep.search_plan import (
    SearchPlan,
    refuse_shapes,
    sections,
    settings_of_trial,
    updates_in,
    words_with,
)
from automix.agents.sweep.search_trial import METRIC
from automix.agents.sweep.slices import Slice, Trainings, learn_slice, thin_out
from automix.agents.sweep.space import Space
from automix.agents.sweep.winner import BEST, complete
from automix.core.errors import ConfigError
from automix.core.files import write_json

log = logging.getLogger("automix")


def run_replay(words: Sequence[str], path: Path | None, overwrite: bool) -> dict[str, Any]:
    """Learn by a schedule and compare what was learned, or go on with that.

    Args:
        words: ``sweep.replay=<schedule.jsonl>``, and what is to be other than in the search.
        path: The replay's directory; one is named after the schedule if there is none.
        overwrite: Begin anew.

    Returns:
        As ``run_search`` does, of one trial.

    Raises:
        AutomixError: If it cannot run.
    """
    plan, schedule = replay_plan_of(words)
    path = (path or replay_path(plan)).absolute()
    with open_search(path, plan, overwrite) as directory:
        result = result_of(directory, lambda: _replayed(plan, schedule, directory))
        directory.status("finished", trials=1, failed=0)
    return result


def replay_plan_of(words: Sequence[str]) -> tuple[SearchPlan, Schedule]:
    """Compose what a schedule and further words make.

    Raises:
        ConfigError: If they do not fit together, or cannot be used.
        DataError: If there is no such schedule.
    """
    sweep, ray, given = sections(words)
    schedule = read_schedule(Path(sweep.replay))
    _, _, base = sections(schedule.words)
    keys = list(schedule.segments[0].values)
    named = {word.partition("=")[0] for word in given}
    for key in keys:
        if key in named:
            raise ConfigError(f"{key} is what the schedule tells", "leave it out")
    fixed = [*(word for word in base if word.partition("=")[0] not in named), *given]
    settings = [
        settings_of_trial(words_with(fixed, one.values), sweep) for one in schedule.segments
    ]
    refuse_shapes(keys, settings[0].agent.name)
    updates = updates_in(settings[0])
    if updates != schedule.updates:
        raise ConfigError(
            f"the schedule is for {schedule.updates} updates, and it would be {updates}",
            "leave out what changes the length of learning",
        )
    starts = [one.update for one in schedule.segments]
    about = json.dumps([starts, [hash_of(one) for one in settings]])
    name = hashlib.sha256(about.encode()).hexdigest()[:12]
    trial = SweepTrial(name, {}, fixed, settings[0])
    plan = SearchPlan(tuple(words), sweep, ray, [], [trial], Space(fixed, ()), updates, updates)
    return plan, schedule


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
    for stretch, until in zip(schedule.segments, ends, strict=True):
        origin = parts[-1].folder if parts else None
        settings = settings_with(stretch.values)
        parts.append(Slice.of(folder, origin, stretch.values, settings, until))
        if parts[-1].ended() is None:
            learn_slice(parts[-1], trainings, stop)
            thin_out(folder, until)
    return parts[-1]


def _replayed(plan: SearchPlan, schedule: Schedule, directory: SweepDirectory) -> dict[str, Any]:
    start, (trial,) = time.monotonic(), plan.trials
    write_schedule(directory.path / SCHEDULE, schedule)
    directory.ledger.write("started", trial.hash)
    try:
        part = _learned(plan, schedule, directory)
        settings = plan.settings_with(part.values)
        command = ["sweep", *plan.words]
        gpus = plan.settings.gpus_per_trial
        compared = complete(part.folder, settings, command, directory.path / BEST, Path.cwd(), gpus)
    except BaseException as error:
        directory.ledger.write(directory.broken_off(error), trial.hash)
        raise
    score = (part.ended() or {})[METRIC]
    directory.ledger.write("finished", trial.hash, update=plan.updates, figures={METRIC: score})
    best = {
        "search": "replay",
        "trial": trial.hash,
        METRIC: score,
        "values": dict(part.values),
        "run": str(directory.path / BEST),
        "figures": figures_of(compared),
    }
    result = {
        "sweep": str(directory.path),
        "search": "replay",
        "metric": METRIC,
        "updates": plan.updates,
        **{"trials": 1, "finished": 1, "stopped": 0, "failed": [], "ranking": []},
        "best": best,
        "wall_s": round(time.monotonic() - start, 1),
    }
    write_json(directory.path / RESULT, result)
    return result


def _learned(plan: SearchPlan, schedule: Schedule, directory: SweepDirectory) -> Slice:
    (trial,) = plan.trials
    device = choose_device(trial.settings.device)
    with (
        start_workers(trial.settings.workers, trial.settings.threads, device) as workers,
        stopping() as asked,
    ):
        trainings = partial(trainings_of, workers=workers, device=device)
        folder = directory.trial(trial.hash)
        try:
            with asked.patiently():
                return learn_along(folder, schedule, plan.settings_with, trainings, asked)
        except Stopped as stopped:
            stop(stopped.signal)
            raise


def replay_path(plan: SearchPlan) -> Path:
    """Return ``sweeps/<name>``; without a name, one that equal schedules and words make again."""
    path = default_path(plan)
    if plan.settings.name:
        return path
    task = plan.trials[0].settings.task.dataset.replace("/", "-")
    return path.with_name(f"{task}_replay_{plan.trials[0].hash[:8]}")
