"""State that outlives the worker that holds it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from automix.agents.parallel.worker import Worker, WorkerDied


class ReplayingWorker:
    """A worker that makes its state anew when it dies, by the calls that had made it.

    The calls since ``begin`` are remembered, and sent again to a fresh process, one by one. They
    must be reproducible, and nobody may change their arguments afterwards; then nothing that comes
    back tells of the death.

    Args:
        worker: Runs the calls; belongs to the caller.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self._keep = False

    def begin(self, *calls: tuple[Callable[..., Any], tuple[Any, ...]]) -> None:
        """Forget the calls so far: these, on an empty state, would do as well."""
        self._calls = list(calls)

    def submit(self, function: Callable[..., Any], *args: Any, keep: bool = True) -> None:
        """Start ``function(state, *args)``; one that only reads need not be kept."""
        self._calls.append((function, args))
        self._keep = keep
        self._worker.submit(function, *args)

    def result(self) -> Any:
        """Wait for the call that was submitted last, through any number of deaths.

        Raises:
            WorkerError: If the worker died too often.
            AutomixError: If the function raised.
        """
        while True:
            with suppress(WorkerDied):
                found = self._worker.result()
                break
            self._revive()
        if not self._keep:
            self._calls.pop()
        return found

    def close(self) -> None:
        """Drop the state; the worker itself goes on."""
        self.begin()
        with suppress(WorkerDied):
            self._worker.submit(_forget)
            self._worker.result()

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


def _forget(state: dict[str, Any]) -> None:
    state.clear()
