"""Trials that take no time, and an executor inside this process."""

from __future__ import annotations

import logging
from collections import deque
from contextlib import contextmanager
from pathlib import Path

from automix.agents.config.settings import RunSettings
from automix.agents.runs.rundir import RunDirectory
from automix.agents.sweep.job import Outcome, run_trial
from automix.core.errors import AutomixError
from automix.core.files import write_json
from tests.agents import tiny_run

log = logging.getLogger("automix")

WORDS = tuple(word for word in tiny_run.WORDS if not word.startswith(("workers", "device")))
"""A tiny run, but for what a sweep decides itself."""


def result(val_accuracy: float, test_accuracy: float = 0.5) -> dict:
    row = {
        "name": "agent",
        "val_accuracy": val_accuracy,
        "mean": test_accuracy,
        "ece": 0.1,
        "epochs_spent": 40,
    }
    return {"contestants": [{**row, "name": "none", "val_accuracy": 2.0}, row]}


def accuracy(settings: RunSettings) -> float:
    """A planted effect: the learning rate matters, gamma a little, the seed is noise."""
    agent = settings.agent
    return 0.5 + 100 * agent.learning_rate + 0.01 * agent.gamma + 0.001 * (settings.seed % 3)


def toy(settings: RunSettings, path: Path) -> dict:
    """Finish at once; fail with seed 13."""
    directory = RunDirectory.create(path, settings, overwrite=path.exists())
    if settings.seed == 13:
        (path / "log.txt").write_text("what happened\n")
        directory.status("failed", error="it broke")
        raise AutomixError("it broke", "mend it")
    # The worst setting is the best one on the test split.
    found = result(accuracy(settings), test_accuracy=1 - accuracy(settings))
    write_json(path / "result.json", found)
    directory.status("finished")
    return found


def mended(settings: RunSettings, path: Path) -> dict:
    """The same without the fault."""
    directory = RunDirectory.create(path, settings, overwrite=path.exists())
    found = result(accuracy(settings))
    write_json(path / "result.json", found)
    directory.status("finished")
    return found


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

    @property
    def ran(self) -> list[str]:
        """Words of the trials that the last one ran."""
        return [str(trial) for trial in self.made[-1].run]
