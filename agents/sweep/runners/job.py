"""What runs inside a Ray task: a trial of a grid, in its own run directory, begun or resumed."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automix.agents.config.settings import RunSettings
from automix.agents.runs.rundir import called_as
from automix.agents.sweep.folder import SweepDirectory, figures_of, only_attempt
from automix.agents.sweep.planning.plan import SweepTrial

PATIENCE_S = 120.0
"""Longer than a disk that machines share takes to notice that one of them is gone."""

Job = Callable[[RunSettings, Path], Mapping[str, Any]]
"""Starts a run in a folder, goes on with it, or returns its result; importable by name."""


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes:
        trial: Its hash.
        figures: What its ``result.json`` says of the agent; None if it failed.
        error: One line; empty if it did not.
        wall_s: Seconds of its last attempt.
    """

    trial: str
    figures: Mapping[str, float] | None
    error: str
    wall_s: float


def run_trial(job: Job, trial: SweepTrial, sweep: Path, home: Path, gpus: float = 0.0) -> Outcome:
    """Run one trial to its end; what goes wrong in it is part of the outcome.

    Args:
        job: The work.
        trial: What to run.
        sweep: The sweep's directory.
        home: Where the sweep was started: relative paths in the settings count from here.
        gpus: That it may use; a share of one bounds its share of the memory.
    """
    start = time.monotonic()
    directory = SweepDirectory(sweep)
    path = directory.trial(trial.hash)
    record = {"time": round(time.time(), 3), "host": socket.gethostname(), "pid": os.getpid()}
    try:
        with (
            only_attempt(directory.attempts(trial.hash), record, PATIENCE_S),
            at_home(home),
            called_as(["train", *trial.overrides, "threads=1", f"--run-dir={path}"]),
        ):
            share_gpu(gpus)
            figures = figures_of(job(trial.settings, path))
    except Exception as error:  # belongs to this trial: the others go on
        return Outcome(trial.hash, None, error_line(error), time.monotonic() - start)
    return Outcome(trial.hash, figures, "", time.monotonic() - start)


def error_line(error: BaseException) -> str:
    """Return an error in one line."""
    said = " ".join(str(error).split())
    message = getattr(error, "message", None)
    return said if message else f"{type(error).__name__}: {said}".removesuffix(": ")


def share_gpu(gpus: float) -> None:
    """Let this process have no more of a GPU's memory than its share."""
    if 0 < gpus < 1:
        import torch

        torch.cuda.set_per_process_memory_fraction(gpus)


@contextmanager
def at_home(home: Path) -> Iterator[None]:
    """Work in the folder that relative paths of a sweep count from, where it is there."""
    before = Path.cwd()
    if home.is_dir():
        os.chdir(home)
    try:
        yield
    finally:
        os.chdir(before)
