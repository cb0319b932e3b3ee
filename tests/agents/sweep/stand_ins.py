"""Trials that take no time, and runners inside this process."""

from __future__ import annotations

import json
import logging
from collections import deque
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from automix.agents.config.settings import RunSettings
from automix.agents.learning.recorder import METRICS
from automix.agents.runs.rundir import RunDirectory
from automix.agents.sweep.folder import SweepDirectory
from automix.agents.sweep.runners.job import Outcome, run_trial
from automix.agents.sweep.runners.ray_grid import run_grid
from automix.agents.sweep.runners.slices import name_of
from automix.agents.sweep.runners.trial import SearchTrial
from automix.core.errors import AutomixError, ConfigError
from automix.core.files import write_json
from tests.agents import surrogate_runs, tiny_run

log = logging.getLogger("automix")

WORDS = tuple(word for word in tiny_run.WORDS if not word.startswith(("workers", "device")))
"""A tiny run, but for what a sweep decides itself."""

BUDGET, UPDATES = 4, 6
PBT = (
    *surrogate_runs.TINY,
    *("agent.n_epochs=2", f"trainer.epochs={BUDGET}"),
    f"agent.total_timesteps={UPDATES * 4 * BUDGET}",
    *("sweep.search=pbt", "sweep.interval=2", "agent.learning_rate=1e-3,1e-2,1e-1"),
)
"""A search on the surrogate: three trials of three slices."""
ASHA = tuple(word.replace("=pbt", "=asha") for word in PBT)


def unlike(cases, call, error=ConfigError) -> list[str]:
    """Return each case whose call raises no such error, or one that does not say what it should.

    Args:
        cases: What to call with, and a part of the message or hint.
        call: Is to raise.
        error: Its kind.
    """
    found = []
    for case, part in cases:
        try:
            call(case)
        except error as caught:
            if part not in f"{caught.message} {caught.hint}" or "\n" in caught.message:
                found.append(f"{case}: {caught.message} {caught.hint}")
        else:
            found.append(f"{case}: nothing was raised")
    return found


def events(path: Path) -> list[tuple[str, str]]:
    """Return the ledger's events and their trials, in order."""
    return [(one["event"], one["trial"]) for one in SweepDirectory(path).ledger.records()]


def events_by_trial(path: Path) -> dict[str, list[str]]:
    """Return what happened to each trial."""
    found: dict[str, list[str]] = {}
    for event, trial in events(path):
        found.setdefault(trial, []).append(event)
    return found


def state(path: Path) -> str:
    """Return what a sweep says of itself."""
    return json.loads((path / "status.json").read_text())["state"]


def metrics(path: Path) -> dict[str, bytes]:
    """Return the records of all slices of a search."""
    files = sorted(path.glob(f"trials/*/*/{METRICS}"))
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


# Grids -------------------------------------------------------------------------------------------


def result(val_accuracy: float, test_accuracy: float = 0.5) -> dict:
    row = {"name": "agent", "val_accuracy": val_accuracy, "mean": test_accuracy, "ece": 0.1}
    row["epochs_spent"] = 40
    return {"contestants": [{**row, "name": "none", "val_accuracy": 2.0}, row]}


def accuracy(settings: RunSettings) -> float:
    """A planted effect: the learning rate matters, gamma a little, the seed is noise."""
    agent = settings.agent
    return 0.5 + 100 * agent.learning_rate + 0.01 * agent.gamma + 0.001 * (settings.seed % 3)


def toy(settings: RunSettings, path: Path, fails: int | None = 13) -> dict:
    """Finish at once; fail with one seed."""
    directory = RunDirectory.create(path, settings, overwrite=path.exists())
    if settings.seed == fails:
        (path / "log.txt").write_text("what happened\n")
        directory.status("failed", error="it broke")
        raise AutomixError("it broke", "mend it")
    # The worst setting is the best one on the test split.
    found = result(accuracy(settings), test_accuracy=1 - accuracy(settings))
    write_json(path / "result.json", found)
    directory.status("finished")
    return found


mended = partial(toy, fails=None)


class Inline:
    """Runs a trial when it is asked what has ended."""

    at_once = 2
    room = 4

    def __init__(self, plan, directory, job):
        self.directory, self.job = directory, job
        self.waiting, self.run, self.most, self.stopped = deque(), [], 0, False

    def submit(self, trial):
        self.waiting.append(trial)
        self.most = max(self.most, len(self.waiting))

    def ended(self, timeout_s) -> list[Outcome]:
        trial = self.waiting.popleft()
        self.run.append(trial)
        return [run_trial(self.job, trial, self.directory.path, Path.cwd())]

    def stop(self):
        self.stopped = True


class Inlines:
    """Makes executors and keeps them for a look."""

    def __init__(self, kind: type[Inline] = Inline):
        self.kind, self.made = kind, []

    @contextmanager
    def __call__(self, plan, directory, job):
        executor = self.kind(plan, directory, job)
        self.made.append(executor)
        yield executor

    def runs(self, job=toy):
        """Return a runner of grids that has them run a job."""
        return partial(run_grid, job=job, executors=self)

    @property
    def ran(self) -> list[str]:
        """Values of the trials that the last one ran."""
        return [str(trial) for trial in self.made[-1].run]


# Searches ----------------------------------------------------------------------------------------


def trainings(settings):
    return settings, surrogate_runs.environments(settings, BUDGET, settings.seed)


class Tuner:
    """Runs one slice of every trial after the other; stops and copies as it is told.

    Args:
        stops: Trials by number, with the update at which they are stopped.
        copies: Whether the first trial takes the last one's place before its last slice.
        breaks: Trials by number that fail in their second slice.
        interrupts: The number of slices after which Ctrl-C comes.
    """

    def __init__(self, stops=None, copies=False, breaks=(), interrupts=-1):
        self.stops, self.copies, self.breaks = stops or {}, copies, breaks
        self.interrupts, self.learned, self.finished = interrupts, 0, []

    @contextmanager
    def __call__(self, plan):
        yield self.run, self.finish

    def run(self, plan, place, watch):
        trials = [SearchTrial(place, self.trainings) for _ in plan.trials]
        for trial, one in zip(trials, plan.trials, strict=True):
            trial.begin(one.hash, one.values)
        over = set()
        for update in range(plan.interval, plan.updates + 1, plan.interval):
            if self.copies and update == plan.updates:
                trials[0].begin(plan.trials[0].hash, {"agent.learning_rate": "0.01"})
                trials[0].load_state_dict(trials[-1].state_dict())
            for number, (trial, one) in enumerate(zip(trials, plan.trials, strict=True)):
                if number in over:
                    continue
                self.broken = number in self.breaks and update == 2 * plan.interval
                watch.started(one.hash)
                report = trial.step()
                report["done"] |= self.stops.get(number) == update
                watch.heard(report)
                over |= {number} if report["done"] else set()

    def trainings(self, settings):
        if self.learned == self.interrupts:
            raise KeyboardInterrupt
        if self.broken:
            raise AutomixError("it broke")
        self.learned += 1
        return trainings(settings)

    def finish(self, part, settings, command, path, home, gpus):
        self.finished.append((name_of(part), settings, command, path))
        return result(0.7)
