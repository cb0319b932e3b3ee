"""Progress of long work: a bar with time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Tick = Callable[..., None]
"""``tick(steps=1, note="")``: so much more is done."""

PLAIN_EVERY_S = 20.0

log = logging.getLogger("automix")


@contextmanager
def progress(what: str, total: int) -> Iterator[Tick]:
    """Show the progress of ``total`` steps while the block runs."""
    with _bar(what, total) if on_a_terminal() else _lines(what, total) as tick:
        yield tick


def on_a_terminal() -> bool:
    """Return whether progress is wanted and a terminal shows it."""
    screens = [h for h in log.handlers if type(h) is logging.StreamHandler]
    wanted = any(screen.level <= logging.INFO for screen in screens)
    return wanted and sys.stderr.isatty() and not os.environ.get("CI")


@contextmanager
def _bar(what: str, total: int) -> Iterator[Tick]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total, note="")
        yield lambda steps=1, note="": bar.update(task, advance=steps, note=note)


@contextmanager
def _lines(what: str, total: int) -> Iterator[Tick]:
    done, start = 0, time.monotonic()
    shown = start

    def tick(steps: int = 1, note: str = "") -> None:
        nonlocal done, shown
        done += steps
        now = time.monotonic()
        if now - shown >= PLAIN_EVERY_S or done == total:
            shown = now
            left = (now - start) / done * (total - done)
            log.info(
                "%s %d/%d, %.0f s left%s", what, done, total, left, f", {note}" if note else ""
            )

    yield tick
