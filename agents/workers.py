"""Processes that hold state and run functions on it, and their stand-in inside this process.

A function gets the worker's own ``state`` dict first; what it returns comes back. Results never
depend on which worker ran a function. The default path opens no port: processes talk over pipes.
"""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol, TypeVar

from automix.errors import AutomixError

T = TypeVar("T")
State = dict[str, Any]

log = logging.getLogger("automix")


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
        gpu: The GPU that it works on with others, and its share of the memory there, if any.
    """

    def __init__(self, index: int, threads: int = 1, gpu: tuple[str, float] | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, threads, gpu), name=f"automix-worker-{index}", daemon=True
        )
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
            # One line for people; where it happened goes to log.txt, and to the screen with -v.
            summary, trace = error
            log.debug("%s: %s", self._name, trace)
            raise WorkerError(f"{self._name} failed: {summary}", "the traceback is in log.txt")
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


def _serve(connection: Connection, threads: int, gpu: tuple[str, float] | None) -> None:
    """Answer until the pipe closes."""
    # The parent alone answers Ctrl-C; it then closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch

    keep_memory()
    torch.set_num_threads(threads)
    _share_gpu(gpu)
    state: State = {}
    while True:
        try:
            function, args = connection.recv()
        except (EOFError, OSError):
            return
        answer: tuple[AutomixError | tuple[str, str] | None, Any]
        try:
            answer = (None, function(state, *args))
        except AutomixError as error:
            answer = (error, None)
        except Exception as error:  # handed to the parent, which raises it
            said = " ".join(str(error).split())
            answer = ((f"{type(error).__name__}: {said}", traceback.format_exc()), None)
        try:
            connection.send(answer)
        except OSError:
            return


def _share_gpu(gpu: tuple[str, float] | None) -> None:
    """Take no more than a share of a GPU's memory."""
    if gpu:
        import torch

        name, share = gpu
        torch.cuda.set_per_process_memory_fraction(share, torch.device(name).index)


def keep_memory() -> None:
    """Tell glibc to keep freed blocks of up to 256 MB for the next operation.

    By default it hands large ones back to the kernel, operation after operation, and the page
    faults then cost more than the arithmetic of a small net. Other systems are left alone.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # musl has no such call
        return
    for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
        set_option(option, 2**28)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


@contextmanager
def start_workers(count: int, threads: int = 1, device: str = "cpu") -> Iterator[list[Worker]]:
    """Start workers and close them at the end; the last of them is this process itself.

    This process would only wait otherwise, and each process costs most of a gigabyte for torch
    alone. Several on one GPU get equal shares of its memory, so that none starves another.
    """
    keep_memory()
    gpu = (device, 1 / count) if device.startswith("cuda") and count > 1 else None
    _share_gpu(gpu)
    workers: list[Worker] = []
    try:
        workers.extend(ProcessWorker(index, threads, gpu) for index in range(count - 1))
        yield [*workers, InlineWorker()]
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
    free = [worker for worker in workers if isinstance(worker, ProcessWorker)]
    inline = [worker for worker in workers if not isinstance(worker, ProcessWorker)]
    busy: dict[Any, tuple[ProcessWorker, int]] = {}
    while waiting or busy:
        while waiting and free:
            worker, item = free.pop(), waiting.pop()
            worker.submit(function, *items[item])
            busy[worker.connection] = (worker, item)
        here = inline[0] if inline and waiting else None
        if here:
            item = waiting.pop()
            here.submit(function, *items[item])
            results[item] = here.result()
            on_done()
        # With work left for this process, only look; without, wait for the others.
        for connection in wait(list(busy), 0 if here else None) if busy else []:
            worker, item = busy.pop(connection)
            results[item] = worker.result()
            free.append(worker)
            on_done()
    return [results[index] for index in range(len(items))]
