"""A sweep as it runs: every event into the ledger, a live table on a terminal, else plain lines."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from automix.agents.learning.algorithms import updates_of
from automix.agents.learning.recorder import METRICS
from automix.agents.runs.progress import PLAIN_EVERY_S, on_a_terminal
from automix.agents.sweep.folder import SweepDirectory
from automix.agents.sweep.ledger import Event, last_line
from automix.agents.sweep.planning.plan import SweepPlan, SweepTrial, text_of
from automix.agents.sweep.results import parameters

if TYPE_CHECKING:
    from rich.table import Table

MOST_ROWS = 24
"""Running trials that are shown; a terminal is not higher."""

log = logging.getLogger("automix")


@dataclass
class Progress:
    """Where a sweep stands.

    Attributes:
        trials: All of them.
        metric: What they are judged by.
        updates: Of a trial's whole learning in a search.
        at_once: How many run at once, about.
        scores: Metric of the trials that have a result, by hash; in a search, of their last slice.
        over: Hashes of those that will do no more: finished, failed or stopped.
        failed: Error by hash.
        running: Hash to ``time.monotonic()`` when it was first seen to work.
        at: Updates that a trial of a search has learned, by hash.
        took: Seconds of the trials that have finished meanwhile.
    """

    trials: Sequence[SweepTrial]
    metric: str = "val_accuracy"
    updates: int = 0
    at_once: int = 1
    scores: dict[str, float] = field(default_factory=dict)
    over: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    running: dict[str, float] = field(default_factory=dict)
    at: dict[str, int] = field(default_factory=dict)
    took: list[float] = field(default_factory=list)

    def seconds_left(self, now: float) -> float | None:
        """Estimate from the trials that have finished; None before the first has."""
        if not self.took:
            return None
        each = mean(self.took)
        waiting = (len(self.trials) - len(self.over) - len(self.running)) * each
        rest = [max(0.0, each - (now - start)) for start in self.running.values()]
        return max((waiting + sum(rest)) / max(1, self.at_once), max(rest, default=0.0))


class Watch:
    """Notes what happens to trials, and shows how far they are.

    Args:
        plan: Of the sweep.
        directory: Its ledger gets every event.
    """

    def __init__(self, plan: SweepPlan, directory: SweepDirectory) -> None:
        self.plan, self.directory = plan, directory
        self.progress = Progress(plan.trials, plan.settings.metric, plan.updates)
        self.show: Callable[[], None] = lambda: None

    def note(self, event: Event, trial: str, *, known: bool = False, **facts: Any) -> None:
        """Take note of an event.

        Args:
            event: Of which kind.
            trial: Of which trial.
            known: The ledger has it already.
            **facts: Go into the ledger.
        """
        if not known:
            self.directory.ledger.write(event, trial, **facts)
        progress = self.progress
        if event in ("started", "retried"):
            progress.running[trial] = time.monotonic()
        elif event in ("finished", "stopped"):
            progress.scores[trial] = facts["figures"][progress.metric]
            progress.failed.pop(trial, None)
            self.ended(trial)
        elif event == "failed":
            progress.failed[trial] = facts["error"]
        if event == "finished" and facts.get("wall_s"):
            progress.took.append(facts["wall_s"])

    def ended(self, trial: str) -> None:
        """Take note that a trial will do no more."""
        self.progress.running.pop(trial, None)
        self.progress.over.add(trial)


class SearchWatch(Watch):
    """Hears every result of every trial of a search, those of earlier drives too."""

    def __init__(self, plan: SweepPlan, directory: SweepDirectory) -> None:
        super().__init__(plan, directory)
        records = directory.ledger.records()
        last = {record["trial"]: record["event"] for record in records}
        self._over = {name for name, event in last.items() if event in ("finished", "stopped")}
        self._written = {(one["event"], one["trial"], one.get("update")) for one in records}

    @property
    def all_over(self) -> bool:
        """Whether every trial had been finished or stopped before."""
        return self._over >= {trial.hash for trial in self.plan.trials}

    def started(self, trial: str) -> None:
        """Note that a trial has a process; one that is on record has had one before."""
        if trial not in self.progress.running:
            self.note("started", trial, known=trial in self._over)

    def heard(self, result: Mapping[str, Any]) -> None:
        """Note what a slice has come to: a report of ``SearchTrial``."""
        trial, update, score = result["trial"], result["updates"], result[self.progress.metric]
        self.progress.at[trial] = update
        if result["copied"]:
            source = {"from": result["copied"], "values": result["values"]}
            self._note("copied", trial, update, **source)
        if result["failed"]:
            if not result["inherited"]:
                log = f"trials/{trial}/log.txt"
                self._note("failed", trial, update, error=result["failed"], log=log)
        elif not math.isnan(score):
            self.progress.scores[trial] = score
            if result["done"]:
                event: Event = "finished" if update == self.plan.updates else "stopped"
                self._note(event, trial, update, figures={self.progress.metric: score})
        if result["done"]:
            self.ended(trial)
        self.show()

    def _note(self, event: Event, trial: str, update: int, **facts: Any) -> None:
        """Take note of what may be on record, from an earlier drive."""
        known = (event, trial, update) in self._written
        if event in ("finished", "stopped"):
            known = trial in self._over
        elif not self.plan.settings.population:
            known = False  # what failed by itself is tried again, so that it fails anew
        self._written.add((event, trial, update))
        self.note(event, trial, known=known, update=update, **facts)


@contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """Show a sweep while the block runs; note what was running if it is broken off."""
    try:
        with _shown(watch):
            yield
    except BaseException:
        for trial in sorted(watch.progress.running):
            watch.note("interrupted", trial)
        raise


@contextmanager
def _shown(watch: Watch) -> Iterator[None]:
    if not on_a_terminal():
        watch.show = _lines(watch.progress)
        yield
        return
    from rich.console import Console
    from rich.live import Live

    def table() -> Table:
        return table_of(watch.progress, watch.directory)

    with Live(
        get_renderable=table, console=Console(stderr=True), transient=True, refresh_per_second=2
    ):
        yield


def _lines(progress: Progress) -> Callable[[], None]:
    """Return what logs a line every 20 seconds, and one at the end."""
    shown = time.monotonic()

    def show() -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown >= PLAIN_EVERY_S or len(progress.over) == len(progress.trials):
            shown = now
            log.info("sweep %s", headline(progress, now))

    return show


def headline(progress: Progress, now: float) -> str:
    """Return where a sweep stands, in one line."""
    total, done = len(progress.trials), len(progress.over - progress.failed.keys())
    parts = [f"{done}/{total} done", f"{len(progress.running)} running"]
    if progress.failed:
        parts.append(f"{len(progress.failed)} failed")
    if progress.updates:
        parts.append(f"{sum(progress.at.values())} of at most {total * progress.updates} updates")
    left = progress.seconds_left(now)
    if left is not None:
        parts.append(f"{_duration(left)} left")
    best = _best(progress)
    return ", ".join(parts) + (f"; best so far {best}" if best else "")


def _best(progress: Progress) -> str:
    found: dict[str, list[float]] = {}
    for trial in progress.trials:
        if trial.hash in progress.scores:
            name = text_of(parameters(trial)) or "all seeds"
            found.setdefault(name, []).append(progress.scores[trial.hash])
    if not found:
        return ""
    name, values = max(found.items(), key=lambda item: mean(item[1]))
    return f"{name} ({progress.metric} {mean(values):.4f}, n = {len(values)})"


def table_of(progress: Progress, directory: SweepDirectory) -> Table:
    """Return what a terminal shows: each running trial, and what failed last."""
    from rich.table import Table
    from rich.text import Text

    now = time.monotonic()
    table = Table(box=None, pad_edge=False, title_justify="left")
    table.title = Text(headline(progress, now))
    for column in ("trial", "since", "is"):
        table.add_column(column, no_wrap=True)
    trials = {trial.hash: trial for trial in progress.trials}
    running = list(progress.running.items())
    for name, start in running[:MOST_ROWS]:
        is_at = doing(directory.trial(name), trials[name])
        table.add_row(Text(str(trials[name])), _duration(now - start), Text(is_at))
    if len(running) > MOST_ROWS:
        table.add_row(f"and {len(running) - MOST_ROWS} more", "", "")
    for name, error in list(progress.failed.items())[-3:]:
        table.add_row(Text(str(trials[name])), "", Text(f"failed: {error}"))
    return table


def doing(folder: Path, trial: SweepTrial) -> str:
    """Return what a running trial is at, from its own files."""
    settings = trial.settings
    total = updates_of(settings.agent, settings.decisions)
    # A trial of a search has them in the folders of its slices, whose names count up.
    slices = sorted(folder.glob(f"[0-9]*/{METRICS}"))
    last = last_line(slices[-1] if slices else folder / METRICS)
    if not last:
        return "starting"
    if last.get("update") == total:
        return "comparing"
    accuracy = last.get("val_accuracy")
    note = f", validation accuracy {accuracy:.3f}" if isinstance(accuracy, float) else ""
    return f"learning {last.get('update')}/{total}{note}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
