"""Processes that hold state and run functions on it, and their stand-in inside this process.

A function gets the worker's own ``state`` dict first; what it returns comes back. Results never
depend on which worker ran a function, nor on one that died on the way. The default path opens no
port: processes talk over pipes.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol, TypeVar

from automix.agents.config.settings import RaySettings
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


class Worker(Protocol):
    """Runs one function at a time."""

    name: str
    restarts: int
    """How often it was given a fresh process."""

    def submit(self, function: Callable[..., Any], *args: Any) -> None:
        """Start ``function(state, *args)``; what this process itself cannot do is raised later."""
        ...

    def result(self) -> Any:
        """Wait for the function that was submitted last, and return what it returned.

        Raises:
            WorkerDied: If its process or machine is gone, or it took too long and was killed.
            AutomixError: If the function raised.
        """
        ...

    def restart(self) -> None:
        """Take a fresh process, with empty state.

        Raises:
            WorkerError: If that has happened too often.
        """
        ...

    def close(self) -> None:
        """Stop at once, also in the middle of work; later work begins with empty state."""
        ...


class InlineWorker:
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


class RestartableWorker(ABC):
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
    def submit(self, function: Callable[..., Any], *args: Any) -> None:
        """Send ``function(state, *args)``; the function must be importable by name."""

    @abstractmethod
    def result(self) -> Any:
        """Wait for the answer; see ``Worker.result``."""

    @abstractmethod
    def close(self) -> None:
        """Stop; see ``Worker.close``."""

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
            raise WorkerError(
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


class ProcessWorker(RestartableWorker):
    """Runs functions in a process of its own, started afresh (no fork of a threaded parent).

    Args:
        index: Names the worker.
        threads: torch threads in it.
        gpu: The GPU that it works on with others, and its share of the memory there, if any.
        max_restarts: How often it may be restarted.
        step_timeout_s: A function that takes longer hangs, and its process is killed; 0 waits for
            ever.
    """

    def __init__(
        self,
        index: int,
        threads: int = 1,
        gpu: tuple[str, float] | None = None,
        *,
        max_restarts: int = 3,
        step_timeout_s: float = 0.0,
    ) -> None:
        super().__init__(index, max_restarts, step_timeout_s)
        self._index, self._threads, self._gpu = index, threads, gpu
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve,
            args=(theirs, self._threads, self._gpu),
            name=f"automix-worker-{self._index}",
            daemon=True,
        )
        self._process.start()
        theirs.close()
        self._fresh = True

    def submit(self, function: Callable[..., Any], *args: Any) -> None:
        """Send ``function(state, *args)``; the function must be importable by name."""
        if self._connection.closed:
            self._start()
        self._begin(self._fresh)
        self._fresh = False
        with suppress(OSError):  # it is gone, which ``result`` tells
            self._connection.send((function, args))

    def result(self) -> Any:
        """Wait for the answer; see ``Worker.result``."""
        if self._connection.closed:
            raise self._died(self._cause)
        left = self.time_left()
        try:
            if left < float("inf") and not self._connection.poll(max(left, 0)):
                raise self._hung()
            reply = self._connection.recv()
        except (EOFError, OSError):
            raise self._died(self._how_it_ended()) from None
        return self._opened(reply)

    @staticmethod
    def wait_any(workers: Sequence[Any], timeout_s: float | None) -> list[Any]:
        """Wait for one of several processes; see ``RestartableWorker.wait_any``."""
        ready = wait([worker._connection for worker in workers], timeout_s)
        return [worker for worker in workers if worker._connection in ready]

    def close(self) -> None:
        """Kill the process, which has nothing to save; torch takes seconds to end by itself."""
        self._connection.close()
        self._process.kill()
        self._process.join()

    def _how_it_ended(self) -> str:
        self._process.join(timeout=5)
        code = self._process.exitcode
        return signal.Signals(-code).name if code and code < 0 else f"exit code {code}"


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
        return _told(error)


def _told(error: Exception) -> Answer:
    said = " ".join(str(error).split())
    return (f"{type(error).__name__}: {said}", "".join(traceback.format_exception(error))), None


def _end_with_parent() -> None:
    """End this process with its parent: in mid-epoch it would not look at the pipe."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _serve(connection: Connection, threads: int, gpu: tuple[str, float] | None) -> None:
    """Answer until the pipe closes."""
    # The parent alone answers Ctrl-C; it then closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    keep_memory()
    torch.set_num_threads(threads)
    _share_gpu(gpu)
    state: State = {}
    while True:
        try:
            reply = answer(state, *connection.recv())
        except (EOFError, OSError):
            return
        except Exception as error:  # it cannot be unpickled here
            reply = _told(error)
        try:
            connection.send(reply)
        except OSError:
            return
        except Exception as error:  # it cannot be pickled
            connection.send(_told(error))


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
def start_workers(
    count: int,
    threads: int = 1,
    device: str = "cpu",
    *,
    backend: str = "local",
    max_restarts: int = 3,
    step_timeout_s: float = 0.0,
    ray: RaySettings | None = None,
) -> Iterator[Sequence[Worker]]:
    """Start workers and close them at the end.

    Args:
        count: How many.
        threads: torch threads of each.
        device: What their functions will be told to work on.
        backend: ``local`` for processes of this machine, or ``ray`` for actors.
        max_restarts: How often each may be restarted.
        step_timeout_s: A function that takes longer hangs; 0 waits for ever.
        ray: Where Ray runs, and what an actor takes of it.
    """
    if backend == "ray":
        from automix.agents.parallel.ray_workers import ray_workers

        started = ray_workers(
            count, threads, device, max_restarts, step_timeout_s, ray or RaySettings()
        )
    else:
        started = _local_workers(count, threads, device, max_restarts, step_timeout_s)
    with started as workers:
        yield workers


@contextmanager
def _local_workers(
    count: int, threads: int, device: str, max_restarts: int, step_timeout_s: float
) -> Iterator[Sequence[Worker]]:
    """Start processes; the last worker is this process itself.

    It would only wait otherwise, and each process costs most of a gigabyte for torch alone. Several
    on one GPU get equal shares of its memory, so that none starves another.
    """
    keep_memory()
    gpu = (device, 1 / count) if device.startswith("cuda") and count > 1 else None
    _share_gpu(gpu)
    limits: Any = {"max_restarts": max_restarts, "step_timeout_s": step_timeout_s}
    workers: list[Worker] = []
    try:
        workers.extend(ProcessWorker(index, threads, gpu, **limits) for index in range(count - 1))
        yield [*workers, InlineWorker()]
    finally:
        for worker in workers:
            worker.close()


def map_in_order(
    workers: Sequence[Worker],
    function: Callable[..., T],
    items: Sequence[tuple[Any, ...]],
    on_done: Callable[[int, T], None] = lambda item, result: None,
) -> list[T]:
    """Return ``function(state, *item)`` for every item, in the order of the items.

    A free worker takes the next item; the item of one that died is done again.
    ``on_done(item, result)`` is called after each.

    Raises:
        WorkerError: If a worker died too often.
        AutomixError: If a function raised; the other workers are closed at once.
    """
    results: dict[int, T] = {}
    waiting = list(reversed(range(len(items))))
    free = [worker for worker in workers if isinstance(worker, RestartableWorker)]
    inline = [worker for worker in workers if not isinstance(worker, RestartableWorker)]
    busy: dict[RestartableWorker, int] = {}
    try:
        while waiting or busy:
            while waiting and free:
                worker, item = free.pop(), waiting.pop()
                busy[worker] = item
                worker.submit(function, *items[item])
            here = inline[0] if inline and waiting else None
            if here:
                item = waiting.pop()
                here.submit(function, *items[item])
                results[item] = here.result()
                on_done(item, results[item])
            # With work left for this process, only look; without, wait for the others.
            for worker in _answered(list(busy), look=here is not None):
                item = busy[worker]
                try:
                    results[item] = worker.result()
                except WorkerDied:
                    worker.restart()
                    waiting.append(item)
                else:
                    on_done(item, results[item])
                del busy[worker]
                free.append(worker)
    except BaseException:
        for worker in busy:
            worker.close()
        raise
    return [results[index] for index in range(len(items))]


def _answered(workers: Sequence[RestartableWorker], look: bool) -> Sequence[RestartableWorker]:
    """Return those at work that have an answer, are gone, or hang; wait for one unless told."""
    if not workers:
        return []
    left = min(worker.time_left() for worker in workers)
    # Second by second: the clock of an actor starts when it has found a place.
    patience = 0.0 if look else min(max(left, 0.0), 1.0) if left < float("inf") else None
    ready = workers[0].wait_any(workers, patience)
    return [worker for worker in workers if worker in ready or worker.time_left() <= 0]
