"""A slice of learning: some updates, from where another slice has ended, with settings of its own.

A search learns in slices, between which trials are judged, stopped or copied. A slice has a folder;
what it comes to depends on nothing but what it goes on from and its settings. So one that has ended
is read and not learned again, one that was killed goes on, and a chain of slices can be replayed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

from automix.agents.config.settings import RunSettings
from automix.agents.learning.recorder import METRICS
from automix.agents.learning.training import Learning, Stop, never, shaping_settings
from automix.agents.runs.rundir import RunDirectory
from automix.agents.sweep.ledger import json_lines
from automix.agents.sweep.planning.schedule import SearchSegment
from automix.agents.vec_env.group_vec_env import GroupVecEnv
from automix.core.files import read_json, write_json

BEGUN, ENDED, STATE = "begun.json", "ended.json", "state"

METRIC = "val_accuracy"

Trainings = Callable[[RunSettings], tuple[RunSettings, GroupVecEnv]]
"""As ``automix.agents.learning.training.trainings_of``, with its workers and device."""


@dataclass(frozen=True)
class Slice:
    """A slice of a trial's learning.

    Attributes:
        trial: Folder of the trial.
        origin: Folder of the slice that it goes on from; None begins to learn.
        values: Of the searched keys, as text.
        settings: Of the run, with these values.
        until: The update that it ends after.
    """

    trial: Path
    origin: Path | None
    values: Mapping[str, str]
    settings: RunSettings
    until: int

    @property
    def folder(self) -> Path:
        """``<trial>/<update>``, where the update is the one that it ends after."""
        return folder_of(self.trial, self.until)

    def about(self) -> dict[str, Any]:
        """Return what its outcome depends on, as plain data."""
        shape = json.dumps(shaping_settings(self.settings), sort_keys=True)
        return {
            "origin": name_of(self.origin) if self.origin else None,
            "until": self.until,
            "values": dict(self.values),
            "settings": hashlib.sha256(shape.encode()).hexdigest()[:12],
        }

    def ended(self) -> dict[str, Any] | None:
        """Return how it ended, if it has: ``val_accuracy``, or ``error``."""
        if not self._begun() or not (self.folder / ENDED).is_file():
            return None
        return dict(read_json(self.folder / ENDED))

    def end(self, **facts: Any) -> dict[str, Any]:
        """Write down how it ended."""
        write_json(self.folder / ENDED, facts)
        return facts

    def begin(self) -> None:
        """Make the folder, or leave the one that an earlier process has made for the same slice."""
        if self._begun():
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        write_json(self.folder / BEGUN, self.about())

    def _begun(self) -> bool:
        file = self.folder / BEGUN
        return file.is_file() and read_json(file) == self.about()


def learn_slice(part: Slice, trainings: Trainings, stop: Stop = never) -> dict[str, Any]:
    """Learn a slice, or what is left of it, and return how it ended.

    Returns:
        ``val_accuracy``: mean of the slice's rounds of episodes, while it learned.

    Raises:
        Stopped: As soon as ``stop`` answers anything but 0; a checkpoint has been written.
        AutomixError: If it cannot be learned.
    """
    part.begin()
    settings, env = trainings(part.settings)
    learning = Learning(settings, env, RunDirectory(part.folder), stop)
    if not learning.load() and part.origin:
        learning.load(part.origin / STATE)
    learning.run(part.until)
    learning.save(part.folder / STATE)
    env.close()
    before = _until(part.origin) if part.origin else 0
    rounds = json_lines(part.folder / METRICS)
    scores = [one[METRIC] for one in rounds if one["update"] > before]
    ended = part.end(**{METRIC: mean(scores)})
    # All of it is in the state by now.
    shutil.rmtree(part.folder / "checkpoints", ignore_errors=True)
    return ended


def thin_out(trial: Path, until: int) -> None:
    """Remove a trial's states but for the last two up to an update.

    No older one is needed: a trial that is to copy this one is at most one slice behind it.
    """
    older = [folder for folder in _slices(trial) if int(folder.name) <= until][:-2]
    for folder in older:
        shutil.rmtree(folder / STATE, ignore_errors=True)


def segments_of(folder: Path) -> list[SearchSegment]:
    """Return how the learning up to a slice came about; neighbours with equal values are one.

    Args:
        folder: Of the last slice, ``<trials>/<trial>/<update>``.
    """
    trials, found = folder.parents[1], list[SearchSegment]()
    at: Path | None = folder
    while at:
        about = read_json(at / BEGUN)
        origin = trials / about["origin"] if about["origin"] else None
        begin = _until(origin) if origin else 0
        found.insert(0, SearchSegment(begin, about["values"], at.parent.name))
        at = origin
    pairs = pairwise(found)
    return found[:1] + [one for before, one in pairs if one.values != before.values]


def folder_of(trial: Path, until: int) -> Path:
    """Return the folder of a trial's slice that ends after an update."""
    return trial / f"{until:06d}"


def name_of(folder: Path) -> str:
    """Return ``<trial>/<update>``."""
    return f"{folder.parent.name}/{folder.name}"


def _until(folder: Path) -> int:
    return int(folder.name)


def _slices(trial: Path) -> list[Path]:
    return sorted(folder for folder in trial.iterdir() if folder.name.isdigit())
