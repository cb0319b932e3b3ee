"""Drives trials: hands them to an executor, notes what becomes of them, shows how far it is."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from automix.agents.sweep.folder import SweepDirectory
from automix.agents.sweep.job import Outcome
from automix.agents.sweep.ledger import json_lines
from automix.agents.sweep.plan import SweepTrial
from automix.agents.sweep.results import Row

POLL_S = 0.5


class Executor(Protocol):
    """Runs trials somewhere."""

    @property
    def room(self) -> int:
        """How many trials it takes at once, waiting ones included."""
        ...

    @property
    def at_once(self) -> int:
        """How many it runs at once, about."""
        ...

    def submit(self, trial: SweepTrial) -> None:
        """Take a trial."""
        ...

    def ended(self, timeout_s: float) -> list[Outcome]:
        """Return the trials that have ended since, waiting a while for the first."""
        ...

    def stop(self) -> None:
        """Ask all trials to stop, and wait until they have written where they are."""
        ...


@dataclass
class Progress:
    """Where a sweep stands.

    Attributes:
        trials: All of them.
        at_once: How many run at once, about.
        settled: Finished before this drive, with figures.
        outcomes: Ended in this drive.
        running: Hash to ``time.monotonic()`` when it was first seen to work.
        retries: Hash to how often its process died.
    """

    trials: Sequence[SweepTrial]
    at_once: int = 1
    settled: dict[str, dict[str, float]] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    running: dict[str, float] = field(default_factory=dict)
    retries: dict[str, int] = field(default_factory=dict)

    @property
    def failed(self) -> list[Outcome]:
        """What ended with an error."""
        return [outcome for outcome in self.outcomes.values() if outcome.figures is None]

    @property
    def finished(self) -> int:
        """How many have a result."""
        return len(self.settled) + len(self.outcomes) - len(self.failed)

    def seconds_left(self, now: float) -> float | None:
        """Estimate from the trials that have finished; None before the first has."""
        took = [o.wall_s for o in self.outcomes.values() if o.figures is not None]
        if not took:
            return None
        each = sum(took) / len(took)
        known = len(self.settled) + len(self.outcomes) + len(self.running)
        waiting = (len(self.trials) - known) * each
        rest = [max(0.0, each - (now - start)) for start in self.running.values()]
        return max((waiting + sum(rest)) / max(1, self.at_once), max(rest, default=0.0))


Show = Callable[[Progress], None]


def drive(
    trials: Sequence[SweepTrial], directory: SweepDirectory, executor: Executor, progress: Progress,
    most: int, show: Show,
) -> None:  # fmt: skip
    """Run trials to their ends; a failed one stops nobody else.

    Args:
        trials: Those that have no result yet.
        directory: Of the sweep.
        executor: Runs them.
        progress: Kept true all along.
        most: Trials at once; 0 is as many as the executor takes.
        show: Told now and then.

    Raises:
        KeyboardInterrupt: And the like, after all trials have been asked to stop.
    """
    waiting = deque(trials)
    watch = _Watch(directory, [trial.hash for trial in trials])
    flying: dict[str, SweepTrial] = {}
    try:
        while waiting or flying:
            room = min(executor.room, most or executor.room)
            while waiting and len(flying) < room:
                trial = waiting.popleft()
                executor.submit(trial)
                flying[trial.hash] = trial
            progress.at_once = min(executor.at_once, most or executor.at_once)
            ended = executor.ended(POLL_S)
            watch.look(flying, progress)
            for outcome in ended:
                del flying[outcome.trial]
                progress.running.pop(outcome.trial, None)
                progress.outcomes[outcome.trial] = outcome
                _note(directory, outcome)
            show(progress)
    except BaseException:
        executor.stop()
        watch.look(flying, progress)
        for name in progress.running:
            directory.ledger.write("interrupted", name)
        raise


class _Watch:
    """Reads the lines that trials' processes write as they start."""

    def __init__(self, directory: SweepDirectory, names: Sequence[str]) -> None:
        self._directory = directory
        # Lines of earlier drives are no news.
        self._seen = {name: len(self._lines(name)) for name in names}
        self._before = dict(self._seen)

    def look(self, flying: dict[str, SweepTrial], progress: Progress) -> None:
        for name in flying:
            for line in self._lines(name)[self._seen[name] :]:
                again = self._seen[name] > self._before[name]
                self._seen[name] += 1
                where = {key: line.get(key) for key in ("host", "pid")}
                self._directory.ledger.write("retried" if again else "started", name, **where)
                progress.running[name] = time.monotonic()
                if again:
                    progress.retries[name] = progress.retries.get(name, 0) + 1

    def _lines(self, name: str) -> list[dict[str, Any]]:
        return json_lines(self._directory.attempts(name))


def _note(directory: SweepDirectory, outcome: Outcome) -> None:
    wall = round(outcome.wall_s, 1)
    if outcome.figures is not None:
        facts = dict(outcome.figures)
        directory.ledger.write("finished", outcome.trial, wall_s=wall, figures=facts)
        return
    log = directory.trial(outcome.trial) / "log.txt"
    path = str(log.relative_to(directory.path)) if log.is_file() else ""
    directory.ledger.write("failed", outcome.trial, wall_s=wall, error=outcome.error, log=path)


def rows_of(trials: Sequence[SweepTrial], directory: SweepDirectory) -> list[Row]:
    """Return what is known of every trial, from its directory and from the ledger."""
    last: dict[str, dict[str, Any]] = {}
    retries: dict[str, int] = {}
    for record in directory.ledger.records():
        last[record["trial"]] = record
        retries[record["trial"]] = retries.get(record["trial"], 0) + (record["event"] == "retried")
    rows = []
    for trial in trials:
        record = last.get(trial.hash, {"event": "planned"})
        figures = directory.figures(trial.hash)
        state = "finished" if figures else record["event"]
        # Finished by the ledger alone: its directory is gone, so it will run again.
        state = "planned" if state == "finished" and not figures else state
        error, log = (record["error"], record["log"]) if state == "failed" else ("", "")
        wall = record.get("wall_s")
        rows.append(Row(trial, state, figures, wall, retries.get(trial.hash, 0), error, log))
    return rows


def settle(trials: Sequence[SweepTrial], directory: SweepDirectory) -> dict[str, dict[str, float]]:
    """Return the figures of the trials that have finished, and see that the ledger knows them."""
    known = directory.ledger.last()
    found = {}
    for trial in trials:
        figures = directory.figures(trial.hash)
        if figures is None:
            continue
        found[trial.hash] = figures
        if known.get(trial.hash, {}).get("event") != "finished":
            # It finished, and the sweep was killed before it could take note.
            directory.ledger.write("finished", trial.hash, wall_s=None, figures=figures)
    return found
