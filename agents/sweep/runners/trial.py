"""A trial of a search as its process holds it: learns slice by slice, and reports on each."""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from automix.agents.config.settings import RunSettings
from automix.agents.learning.training import trainings_of
from automix.agents.parallel.devices import choose_device
from automix.agents.parallel.pool import start_workers
from automix.agents.sweep.folder import SweepDirectory, only_attempt
from automix.agents.sweep.ledger import json_lines
from automix.agents.sweep.planning.plan import SweepPlan
from automix.agents.sweep.runners.job import PATIENCE_S, at_home, error_line, share_gpu
from automix.agents.sweep.runners.slices import (
    ENDED,
    METRIC,
    Slice,
    Trainings,
    learn_slice,
    name_of,
    thin_out,
)
from automix.core.errors import AutomixError
from automix.core.files import read_json

TIME = "updates"

log = logging.getLogger("automix")


@dataclass(frozen=True)
class Place:
    """What every trial of a search needs to know.

    Attributes:
        plan: Of the search.
        sweep: Its directory.
        home: Where it was started: relative paths in the settings count from here.
        session: Of the driver, so that deaths are counted anew by each.
        stopped: Trials that an earlier driver has stopped for good.
    """

    plan: SweepPlan
    sweep: Path
    home: Path
    session: str
    stopped: frozenset[str] = frozenset()


@dataclass
class _At:
    """How far a trial is."""

    origin: Path | None = None
    until: int = 0


@dataclass
class SearchTrial:
    """A trial, or one after the other in the same process.

    Attributes:
        place: Of the search.
        trainings: Builds environments; workers are started for them if not given.
    """

    place: Place
    trainings: Trainings | None = None
    _name: str = ""
    _values: Mapping[str, str] = field(default_factory=dict)
    _at: _At = field(default_factory=_At)
    _open: ExitStack = field(default_factory=ExitStack)

    def begin(self, name: str, values: Mapping[str, str]) -> None:
        """Be a trial, at its start."""
        self._name, self._values, self._at = name, dict(values), _At()

    def step(self) -> dict[str, Any]:
        """Learn a slice, or read what it came to, and report."""
        plan = self.place.plan
        until = min(self._at.until + plan.interval, plan.updates)
        trial = SweepDirectory(self.place.sweep).trial(self._name)
        settings = plan.settings_with(self._values)
        part = Slice(trial, self._at.origin, self._values, settings, until)
        ended = self._known(part) or self._learned(part, trial)
        if METRIC in ended:
            thin_out(trial, until)
        before, self._at = self._at, _At(part.folder, until)
        return self._report(ended, before)

    def state_dict(self) -> dict[str, Any]:
        """Return how far the trial is, from where any trial can go on."""
        origin = str(self._at.origin) if self._at.origin else None
        return {"origin": origin, "until": self._at.until}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where a trial was."""
        self._at = _At(Path(state["origin"]) if state["origin"] else None, state["until"])

    def close(self) -> None:
        """End the workers."""
        self._open.close()

    def _known(self, part: Slice) -> dict[str, Any] | None:
        """Return what is on record of a slice, as far as it stands."""
        ended = part.ended()
        if ended is None and self._name in self.place.stopped:
            return {"stopped": True}
        # In a population the others have gone on from what a failure was judged by.
        stands = ended and (METRIC in ended or self.place.plan.settings.population)
        return ended if stands else None

    def _learned(self, part: Slice, trial: Path) -> dict[str, Any]:
        part.begin()
        failed = self._failed_before()
        if failed:
            return part.end(error=failed, inherited=True)
        trial.mkdir(parents=True, exist_ok=True)
        attempts = SweepDirectory(self.place.sweep).attempts(self._name)
        record = {"session": self.place.session, "slice": name_of(part.folder)}
        about = {"time": round(time.time(), 3), "host": socket.gethostname(), "pid": os.getpid()}
        with (
            _logged(trial / "log.txt"),
            only_attempt(attempts, {**about, **record}, PATIENCE_S),
            at_home(self.place.home),
        ):
            try:
                self._refuse_deadly(attempts, record)
                return learn_slice(part, self._trainings(part.settings))
            except Exception as error:  # belongs to this trial: the others go on
                log.exception("slice %s failed", name_of(part.folder))
                return part.end(error=error_line(error))

    def _failed_before(self) -> str:
        """Return the error of the slice that this one goes on from, if it has failed."""
        if not self._at.origin:
            return ""
        return str(read_json(self._at.origin / ENDED).get("error", ""))

    def _refuse_deadly(self, attempts: Path, record: Mapping[str, str]) -> None:
        """Give up a slice whose process dies again and again."""
        tries = sum(record.items() <= line.items() for line in json_lines(attempts))
        if tries > self.place.plan.settings.max_retries + 1:
            raise AutomixError(f"its process or its machine died {tries - 1} times")

    def _trainings(self, settings: RunSettings) -> Trainings:
        if self.trainings is None:
            device = choose_device(settings.device)
            share_gpu(self.place.plan.settings.gpus_per_trial)
            workers = self._open.enter_context(
                start_workers(settings.workers, settings.threads, device)
            )
            self.trainings = partial(trainings_of, workers=workers, device=device)
        return self.trainings

    def _report(self, ended: Mapping[str, Any], before: _At) -> dict[str, Any]:
        plan, failed = self.place.plan, METRIC not in ended
        over = failed and not plan.settings.population
        # The least accuracy there is makes a failure copy a better trial.
        nothing = 0.0 if plan.settings.population else math.nan
        copied = before.origin and before.origin.parent.name != self._name
        return {
            TIME: before.until if over else self._at.until,
            METRIC: ended.get(METRIC, nothing),
            "done": over or self._at.until == plan.updates,
            "trial": self._name,
            "values": dict(self._values),
            "copied": name_of(before.origin) if copied and before.origin else "",
            "failed": ended.get("error", ""),
            "inherited": ended.get("inherited", False),
        }


@contextmanager
def _logged(file: Path) -> Iterator[None]:
    """Let a trial's log have what is logged while it learns."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeHandler(handler)
        handler.close()
