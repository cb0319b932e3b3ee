"""Workers that die at chosen calls, without any process."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from automix.agents.parallel.worker import RestartableWorker


class Deaths:
    """Counts the calls of several workers and says at which of them one dies.

    Args:
        at: Numbers of calls, from 0.
    """

    def __init__(self, at: Collection[int] = ()) -> None:
        self.calls = 0
        self.at = at

    def now(self) -> bool:
        """Count a call; return whether it is deadly."""
        self.calls += 1
        return self.calls - 1 in self.at


class FragileWorker(RestartableWorker):
    """Runs functions here, and loses its state and the answer when its time has come.

    The function has run by then, as with a process that dies before it answers.
    """

    def __init__(self, index: int, deaths: Deaths, max_restarts: int = 3) -> None:
        super().__init__(index, max_restarts, 0.0)
        self._deaths = deaths
        self.closed = False
        self._start()

    def _start(self) -> None:
        self.state: dict[str, Any] = {}
        self._alive = True

    def submit(self, function: Callable[..., Any], *args: Any) -> None:
        """Run the function now, or die."""
        self._result = function(self.state, *args)
        self._alive = not self._deaths.now()

    def result(self) -> Any:
        """Return what the function returned."""
        if not self._alive:
            raise self._died("as it should")
        return self._result

    @staticmethod
    def wait_any(workers: Any, timeout_s: float | None) -> list[Any]:
        """Take the last, so that results come in no simple order."""
        return list(workers)[-1:]

    def close(self) -> None:
        """Note that it was closed."""
        self.closed = True
