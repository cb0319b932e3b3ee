"""What every worker is: something that holds state and runs functions on it.

A function gets the worker's own ``state`` dict first; what it returns comes back. Results never
depend on which worker ran a function, nor on one that died on the way.
"""

from __future__ import annotations

import gc
import logging
import sys
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from automix.core.errors import AutomixError, ResourceError

T = TypeVar("T")
State = dict[str, Any]
Answer = tuple[AutomixError | tuple[str, str] | None, Any]
"""What went wrong, explained or as summary and traceback, and what the function returned."""

log = logging.getLogger("automix")


class WorkerError(AutomixError):
    """A worker failed."""


class WorkerDied(WorkerError):  # noqa: N818 (says what happened; WorkerError is the error)
    """A worker's process is gone, and its state with it; ``restart`` gives it a fresh one."""


class WorkerLost(WorkerError):  # noqa: N818
    """A worker died so often that it may not be restarted again."""


class Worker(ABC):
    """Runs one function at a time."""

    name: str
    restarts: int
    """How often it was given a fresh process."""

    @abstractmethod
    def submit(self, function: Callable[..., Any], *args: Any) -> None:
        """Start ``function(state, *args)``; what this process itself cannot do is raised later.

        For a worker in another process the function must be importable by name.
        """

    @abstractmethod
    def result(self) -> Any:
        """Wait for the function that was submitted last, and return what it returned.

        Raises:
            WorkerDied: If its process or machine is gone, or it took too long and was killed.
            AutomixError: If the function raised.
        """

    @abstractmethod
    def restart(self) -> None:
        """Take a fresh process, with empty state.

        Raises:
            WorkerLost: If that has happened too often.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop at once, also in the middle of work; later work begins with empty state."""


class InlineWorker(Worker):
    """Runs functions in this process."""

    name = "this process"
    restarts = 0

    def __init__(self) -> None:
        self._state: State = {}
        self._result: Any = None

    def submit(self, function: Callable[..., Any], *args: Any) -> None:
        """Run ``function(state, *args)`` now."""
        self._result = call(self._state, function, args)

    def result(self) -> Any:
        """Return what the function returned."""
        result, self._result = self._result, None
        return result

    def restart(self) -> None:
        """Forget the state; nobody needs to ask, because this worker cannot die alone."""
        self._state.clear()

    def close(self) -> None:
        """Forget the state."""
        self._state.clear()


class RestartableWorker(Worker):
    """What workers have in common that may die, wherever their processes run.

    Args:
        index: Names the worker.
        max_restarts: How often it may be restarted.
        step_timeout_s: A function that takes longer hangs; 0 waits for ever.
    """

    start_s = 60.0
    """Seconds more for the first function of a fresh process, which has torch to import."""

    def __init__(self, index: int, max_restarts: int, step_timeout_s: float) -> None:
        self.name = f"worker {index}"
        self.restarts = 0
        self._max_restarts, self._step_timeout_s = max_restarts, step_timeout_s
        self._cause = "not known"
        self._due = float("inf")

    @abstractmethod
    def _start(self) -> None:
        """Start a fresh process."""

    @staticmethod
    @abstractmethod
    def wait_any(workers: Sequence[Any], timeout_s: float | None) -> list[Any]:
        """Wait until one of several workers, all of this kind, has an answer or is gone.

        Args:
            workers: All at work.
            timeout_s: Seconds to wait at most; None for ever.

        Returns:
            Those whose ``result`` comes without waiting; maybe none.
        """

    def time_left(self) -> float:
        """Return the seconds until the function at work counts as hung, infinite if it cannot."""
        return self._due - time.monotonic()

    def restart(self) -> None:
        """Take a fresh process and tell so; see ``Worker.restart``."""
        self.close()
        if self.restarts >= self._max_restarts:
            times = f" {self.restarts + 1} times" if self.restarts else ""
            raise WorkerLost(
                f"{self.name} died{times} ({'last: ' if times else ''}{self._cause})",
                "often too little memory: try fewer workers, or a larger max_restarts",
            )
        self.restarts += 1
        log.warning(
            "%s died (%s): restarted, %d of at most %d times",
            *(self.name, self._cause, self.restarts, self._max_restarts),
        )
        self._start()

    def _begin(self, fresh: bool) -> None:
        """Note that a function starts now, the first of its process or a later one."""
        limit = self._step_timeout_s or float("inf")
        self._due = time.monotonic() + limit + (self.start_s if fresh else 0)

    def _died(self, cause: str) -> WorkerDied:
        self._cause = cause
        return WorkerDied(f"{self.name} died ({cause})", "often too little memory: try workers=1")

    def _hung(self) -> WorkerDied:
        """Kill what takes too long."""
        self.close()
        return self._died(f"hung for more than {self._step_timeout_s:g} s")

    def _opened(self, reply: Answer) -> Any:
        """Return what a function returned, or raise what it raised."""
        error, result = reply
        if isinstance(error, AutomixError):
            raise error
        if error is not None:
            # One line for people; where it happened goes to log.txt, and to the screen with -v.
            summary, trace = error
            log.debug("%s: %s", self.name, trace)
            raise WorkerError(f"{self.name} failed: {summary}", "the traceback is in log.txt")
        return result


# In the worker's process -------------------------------------------------------------------------


def call(state: State, function: Callable[..., T], args: Sequence[Any]) -> T:
    """Return ``function(state, *args)``.

    Raises:
        ResourceError: If the memory of the device, or of the machine, was not enough.
    """
    try:
        return function(state, *args)
    except Exception as error:
        if not _lacks_memory(error):
            raise
        told = str(error).partition("\n")[0] or "MemoryError"
    # Not before the handler has ended: the traceback keeps every tensor of the call alive.
    gc.collect()
    if "torch" in sys.modules:
        sys.modules["torch"].cuda.empty_cache()
    raise ResourceError(
        f"out of memory: {told}",
        "try a smaller agent.stacked_groups or agent.group_size, fewer workers, or device=cpu",
    )


def _lacks_memory(error: Exception) -> bool:
    # torch is asked only where the function has it: a worker without it need not import it.
    torch = sys.modules.get("torch")
    return isinstance(error, MemoryError) or bool(
        torch and isinstance(error, torch.OutOfMemoryError)
    )


def answer(state: State, function: Callable[..., Any], args: Sequence[Any]) -> Answer:
    """Run a function in a worker's process; return what it returned or raised."""
    try:
        return None, call(state, function, args)
    except AutomixError as error:
        return error, None
    except Exception as error:  # handed over, and raised there
        return failure(error)


def failure(error: Exception) -> Answer:
    """Return an error as an answer: its summary in one line, and the traceback."""
    said = " ".join(str(error).split())
    return (f"{type(error).__name__}: {said}", "".join(traceback.format_exception(error))), None
