"""Processes that hold state and run functions on it, and their stand-in inside this process.

A function gets the worker's own ``state`` dict first; what it returns comes back. Results never
depend on which worker ran a function. The default path opens no port: processes talk over pipes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol, TypeVar

from automix.errors import AutomixError

T = TypeVar("T")
State = dict[str, Any]

# glibc hands large blocks back to the kernel after every operation, and page faults then cost
# more than the arithmetic of a small net. Read at process start, hence set for children only.
_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "268435456", "MALLOC_TRIM_THRESHOLD_": "268435456"}


class WorkerError(AutomixError):
    """A worker process failed or died."""


class Worker(Protocol):
    """Runs one function at a time."""

    def submit(self, function: Callable[..., Any], *args: Any) -> None:
        """Start ``function(state, *args)``."""
        ...

    def result(self) -> Any:
        """Wait for the function that was submitted last, and return what it returned."""
        ...

    def close(self) -> None:
        """Stop."""
        ...


class InlineWorker:
    """Runs functions in this process."""

    def __init__(self) -> None:
        self._state: State = {}
        self._result: Any = None

    def submit(self, function: Callable[..., Any], *args: Any) -> None:
        """Run ``function(state, *args)`` now."""
        self._result = function(self._state, *args)

    def result(self) -> Any:
        """Return what the function returned."""
        result, self._result = self._result, None
        return result

    def close(self) -> None:
        """Forget the state."""
        self._state.clear()


class ProcessWorker:
    """Runs functions in a process of its own, started afresh (no fork of a threaded parent).

    Args:
        index: Names the process.
        threads: torch threads in it.
    """

    def __init__(self, index: int, threads: int = 1) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, threads), name=f"automix-worker-{index}", daemon=True
        )
        with _environment(_KEEP_MEMORY):
            self._process.start()
        theirs.close()
        self._name = self._process.name

    def submit(self, function: Callable[..., Any], *args: Any) -> None:
        """Send ``function(state, *args)``; the function must be importable by name."""
        try:
            self.connection.send((function, args))
        except OSError:
            raise self._dead() from None

    def result(self) -> Any:
        """Wait for the answer.

        Raises:
            WorkerError: If the function raised, or the process died.
        """
        try:
            error, result = self.connection.recv()
        except (EOFError, OSError):
            raise self._dead() from None
        if isinstance(error, AutomixError):
            raise error
        if error is not None:
            raise WorkerError(f"{self._name} failed: {error}", "the traceback is in log.txt")
        return result

    def close(self) -> None:
        """Close the pipe, which ends the process; kill it if it does not end."""
        self.connection.close()
        self._process.join(timeout=5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _dead(self) -> WorkerError:
        self._process.join(timeout=5)
        code = self._process.exitcode
        cause = f"signal {signal.Signals(-code).name}" if code and code < 0 else f"exit code {code}"
        return WorkerError(f"{self._name} died ({cause})", "often too little memory: try workers=1")


def _serve(connection: Connection, threads: int) -> None:
    """Answer until the pipe closes."""
    # The parent alone answers Ctrl-C; it then closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch

    torch.set_num_threads(threads)
    state: State = {}
    while True:
        try:
            function, args = connection.recv()
        except (EOFError, OSError):
            return
        answer: tuple[AutomixError | str | None, Any]
        try:
            answer = (None, function(state, *args))
        except AutomixError as error:
            answer = (error, None)
        except Exception as error:  # handed to the parent, which raises it
            answer = (f"{type(error).__name__}: {error}\n{traceback.format_exc()}", None)
        try:
            connection.send(answer)
        except OSError:
            return


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables for the processes started inside the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update({n: v for n, v in variables.items() if n not in os.environ})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def start_workers(count: int, threads: int = 1) -> Iterator[list[Worker]]:
    """Start workers and close them at the end; one worker is this process itself."""
    workers: list[Worker] = []
    try:
        if count <= 1:
            workers.append(InlineWorker())
        else:
            workers.extend(ProcessWorker(index, threads) for index in range(count))
        yield workers
    finally:
        for worker in workers:
            worker.close()


def map_in_order(
    workers: Sequence[Worker],
    function: Callable[..., T],
    items: Sequence[tuple[Any, ...]],
    on_done: Callable[[], None] = lambda: None,
) -> list[T]:
    """Return ``function(state, *item)`` for every item, in the order of the items.

    A free worker takes the next item. ``on_done`` is called after each.
    """
    results: dict[int, T] = {}
    waiting = list(reversed(range(len(items))))
    inline = [worker for worker in workers if not isinstance(worker, ProcessWorker)]
    busy: dict[Any, tuple[ProcessWorker, int]] = {}
    free = [worker for worker in workers if isinstance(worker, ProcessWorker)]
    while waiting or busy:
        while waiting and free:
            worker, item = free.pop(), waiting.pop()
            worker.submit(function, *items[item])
            busy[worker.connection] = (worker, item)
        if inline and waiting:
            item = waiting.pop()
            inline[0].submit(function, *items[item])
            results[item] = inline[0].result()
            on_done()
        for connection in wait(list(busy)) if busy else []:
            worker, item = busy.pop(connection)
            results[item] = worker.result()
            free.append(worker)
            on_done()
    return [results[index] for index in range(len(items))]
