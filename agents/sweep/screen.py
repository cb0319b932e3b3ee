"""A sweep as it runs: a live table on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

from automix.agents.learning.algorithms import updates_of
from automix.agents.runs.progress import PLAIN_EVERY_S, on_a_terminal
from automix.agents.sweep.driver import Progress, Show
from automix.agents.sweep.folder import SweepDirectory
from automix.agents.sweep.ledger import last_line
from automix.agents.sweep.plan import SweepTrial
from automix.agents.sweep.results import parameters, words_of

if TYPE_CHECKING:
    from rich.table import Table

MOST_ROWS = 24
"""Running trials that are shown; a terminal is not higher."""

log = logging.getLogger("automix")


@contextmanager
def shown(directory: SweepDirectory, metric: str) -> Iterator[Show]:
    """Show the progress of a sweep while the block runs."""
    if not on_a_terminal():
        yield _Lines(metric).show
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), transient=True, refresh_per_second=2) as live:
        yield lambda progress: live.update(_table(progress, directory, metric))


class _Lines:
    """A line every 20 seconds, and one at the end."""

    def __init__(self, metric: str) -> None:
        self._metric = metric
        self._shown = time.monotonic()

    def show(self, progress: Progress) -> None:
        now = time.monotonic()
        ended = len(progress.settled) + len(progress.outcomes) == len(progress.trials)
        if now - self._shown >= PLAIN_EVERY_S or ended:
            self._shown = now
            log.info("sweep %s", headline(progress, self._metric, now))


def headline(progress: Progress, metric: str, now: float) -> str:
    """Return where a sweep stands, in one line."""
    parts = [
        f"{progress.finished}/{len(progress.trials)} done",
        f"{len(progress.running)} running",
    ]
    if progress.failed:
        parts.append(f"{len(progress.failed)} failed")
    left = progress.seconds_left(now)
    if left is not None:
        parts.append(f"{_duration(left)} left")
    best = _best(progress, metric)
    return ", ".join(parts) + (f"; best so far {best}" if best else "")


def _best(progress: Progress, metric: str) -> str:
    figures: dict[str, Mapping[str, float]] = dict(progress.settled)
    figures |= {n: o.figures for n, o in progress.outcomes.items() if o.figures is not None}
    found: dict[str, list[float]] = {}
    for trial in progress.trials:
        if trial.hash in figures:
            value = figures[trial.hash][metric]
            found.setdefault(words_of(parameters(trial)), []).append(value)
    if not found:
        return ""
    name, values = max(found.items(), key=lambda item: mean(item[1]))
    return f"{name} ({metric} {mean(values):.4f}, n = {len(values)})"


def _table(progress: Progress, directory: SweepDirectory, metric: str) -> Table:
    from rich.table import Table
    from rich.text import Text

    now = time.monotonic()
    table = Table(box=None, pad_edge=False, title_justify="left")
    table.title = Text(headline(progress, metric, now))
    for column in ("trial", "since", "is"):
        table.add_column(column, no_wrap=True)
    trials = {trial.hash: trial for trial in progress.trials}
    running = list(progress.running.items())
    for name, start in running[:MOST_ROWS]:
        is_at = doing(directory.trial(name), trials[name])
        table.add_row(Text(str(trials[name])), _duration(now - start), Text(is_at))
    if len(running) > MOST_ROWS:
        table.add_row(f"and {len(running) - MOST_ROWS} more", "", "")
    for outcome in progress.failed[-3:]:
        table.add_row(Text(str(trials[outcome.trial])), "", Text(f"failed: {outcome.error}"))
    return table


def doing(folder: Path, trial: SweepTrial) -> str:
    """Return what a running trial is at, from its own files."""
    settings = trial.settings
    total = updates_of(settings.agent, settings.env.steps(settings.trainer.epochs))
    last = last_line(folder / "metrics.jsonl")
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
