"""State that outlives the worker that holds it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from automix.agents.parallel.worker import RestartableWorker, State, Worker, WorkerDied, WorkerLost
from automix.core.errors import AutomixError

Call = tuple[Callable[..., Any], tuple[Any, ...]]

log = logging.getLogger("automix")


class ReplayingWorker:
    """A worker that makes its state anew when it dies, by the calls that had made it.

    The calls since ``begin`` are remembered, and sent again to a fresh process, one by one. They
    must be reproducible, and nobody may change their arguments afterwards; then nothing that comes
    back shows the death.

    Args:
        worker: Runs the calls; belongs to the caller.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._calls: list[Call] = []
        self._keep = self._busy = self._lost = False

    @property
    def name(self) -> str:
        """Of the worker."""
        return self._worker.name

    @property
    def restarts(self) -> int:
        """How often the worker was given a fresh process."""
        return self._worker.restarts

    def begin(self, *calls: Call) -> None:
        """Forget the calls so far: these, on an empty state, would do as well."""
        self._calls = list(calls)

    def submit(self, function: Callable[..., Any], *args: Any, keep: bool = True) -> None:
        """Start ``function(state, *args)``; one that only reads need not be kept."""
        self._worker.submit(function, *args)
        self._calls.append((function, args))
        self._keep, self._busy = keep, True

    def result(self) -> Any:
        """Wait for the call that was submitted last, through any number of deaths.

        Raises:
            WorkerLost: If the worker died too often.
            AutomixError: If the function raised.
        """
        self._busy = False
        try:
            found = self._answer()
        except WorkerLost:
            self._lost = True
            raise
        except AutomixError:
            function, args = self._calls.pop()
            if self._keep:
                self._calls.append((_fail_again, (function, args)))
            raise
        if not self._keep:
            self._calls.pop()
        return found

    def close(
        self, function: Callable[[State], None] = dict.clear, patience_s: float = float("inf")
    ) -> None:
        """Run a last function, by default one that drops the state; the worker itself goes on.

        Args:
            function: Called as ``function(state)``; an error goes to the log.
            patience_s: What is under way, and the function, may take so many seconds.
        """
        self.begin()
        until = time.monotonic() + patience_s
        try:
            if self._busy and self._has_answered(until):
                self._busy = False
                self._worker.result()
            if not (self._busy or self._lost):
                self._worker.submit(function)
                if self._has_answered(until):
                    self._worker.result()
        except AutomixError as error:
            log.debug("%s, while it was closed: %s", self.name, error)

    def _has_answered(self, until: float) -> bool:
        worker, left = self._worker, max(until - time.monotonic(), 0.0)
        return (
            left == float("inf")
            or not isinstance(worker, RestartableWorker)
            or bool(worker.wait_any([worker], left))
        )

    def _answer(self) -> Any:
        while True:
            with suppress(WorkerDied):
                return self._worker.result()
            self._revive()

    def _revive(self) -> None:
        """Take fresh processes until one has lived through all calls but the last, sent again."""
        *made, (last, args) = self._calls
        while True:
            self._worker.restart()
            with suppress(WorkerDied):
                for function, own in made:
                    self._worker.submit(function, *own)
                    self._worker.result()
                self._worker.submit(last, *args)
                return


def _fail_again(state: State, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Call what raised an error the first time, for what it had changed by then."""
    with suppress(Exception):
        function(state, *args)
