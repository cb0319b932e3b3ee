"""The winner of a search as a run: its policy exported, and compared on held-out tasks."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from automix.agents.config.settings import RunSettings
from automix.agents.jobs.run import resume
from automix.agents.learning.recorder import METRICS
from automix.agents.runs.rundir import RunDirectory, called_as
from automix.agents.sweep.job import at_home, share_gpu
from automix.agents.sweep.slices import STATE, name_of
from automix.core.files import read_json, write_json

BEST, FROM = "best", "learned_in.json"


Finish = Callable[[Path, RunSettings, Sequence[str], Path, Path, float], dict[str, Any]]
"""As ``complete``."""


def complete(
    part: Path, settings: RunSettings, words: Sequence[str], path: Path, home: Path, gpus: float
) -> dict[str, Any]:
    """Make a run of what a last slice has learned, and finish it as ``train`` does.

    Args:
        part: Folder of the slice.
        settings: Of the slice.
        words: Of the command that makes the same run.
        path: Of the run; one that was begun from the same slice goes on.
        home: Where the search was started.
        gpus: As ``run_trial`` takes it.

    Returns:
        The content of ``result.json``.
    """
    with at_home(home), called_as(words):
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
