"""What happens in a search, as the driver hears it: into the ledger, and on the screen."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from typing import Any

from automix.agents.runs.progress import PLAIN_EVERY_S
from automix.agents.sweep.folder import SweepDirectory
from automix.agents.sweep.ledger import Event
from automix.agents.sweep.search_plan import SearchPlan
from automix.agents.sweep.search_trial import METRIC, TIME

log = logging.getLogger("automix")


class SearchWatch:
    """Hears every result of every trial.

    Args:
        plan: Of the search.
        directory: Its ledger gets what is new.
    """

    def __init__(self, plan: SearchPlan, directory: SweepDirectory) -> None:
        self._plan, self._ledger = plan, directory.ledger
        self._over = {
            name
            for name, record in self._ledger.last().items()
            if record["event"] in ("finished", "stopped")
        }
        self._written = {
            (record["event"], record["trial"], record.get("update"))
            for record in self._ledger.records()
        }
        self._running: set[str] = set()
        self._done: set[str] = set()
        self._best: tuple[float, str] = (0.0, "")
        self._at: dict[str, int] = {}
        self._shown = time.monotonic()

    @property
    def all_over(self) -> bool:
        """Whether every trial had been finished or stopped before."""
        return self._over >= {trial.hash for trial in self._plan.trials}

    def started(self, trial: str) -> None:
        """Note that a trial has a process; one that is on record has had one before."""
        if trial not in self._running and trial not in self._over:
            self._ledger.write("started", trial)
        self._running.add(trial)

    def retried(self, trial: str) -> None:
        """Note that a trial's process has died."""
        self._ledger.write("retried", trial)

    def heard(self, result: Mapping[str, Any]) -> None:
        """Note what a slice has come to."""
        trial, score, update = result["trial"], result[METRIC], result[TIME]
        self._at[trial] = update
        if score > self._best[0]:
            self._best = score, trial
        if result["copied"]:
            source = {"from": result["copied"], "values": result["values"]}
            self._write("copied", trial, update, **source)
        if result["failed"]:
            if not result["inherited"]:
                self._write("failed", trial, update, error=result["failed"], log=log_of(trial))
        elif result["done"] and trial not in self._over and not math.isnan(score):
            event: Event = "finished" if update == self._plan.updates else "stopped"
            self._write(event, trial, update, figures={METRIC: score})
        if result["done"]:
            self._done.add(trial)
        self._show()

    def interrupted(self) -> None:
        """Note which trials were at work when the search was."""
        for trial in sorted(self._running - self._done):
            self._ledger.write("interrupted", trial)

    def _write(self, event: Event, trial: str, update: int, **facts: Any) -> None:
        """Write what an earlier driver has not written."""
        # What failed by itself is tried again, so that it fails anew; a population lives with it.
        if (event, trial, update) not in self._written or not self._plan.population:
            self._ledger.write(event, trial, update=update, **facts)
        self._written.add((event, trial, update))

    def _show(self) -> None:
        now, total = time.monotonic(), len(self._plan.trials)
        if now - self._shown < PLAIN_EVERY_S and len(self._done) < total:
            return
        self._shown = now
        score, trial = self._best
        updates = sum(self._at.values())
        log.info(
            "search: %d/%d trials have ended, %d of at most %d updates; best so far %s (%s %.4f)",
            *(len(self._done), total, updates, total * self._plan.updates, trial, METRIC, score),
        )


def log_of(trial: str) -> str:
    """Return where a trial's log is, below the sweep's directory."""
    return f"trials/{trial}/log.txt"
