"""Workers that are processes of this machine. They talk over pipes and open no port."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from automix.agents.parallel.machine import keep_memory, use_threads
from automix.agents.parallel.worker import (
    RestartableWorker,
    State,
    answer,
    failure,
)


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
    keep_memory()
    use_threads(threads)
    share_gpu(gpu)
    state: State = {}
    while True:
        try:
            reply = answer(state, *connection.recv())
        except (EOFError, OSError):
            return
        except Exception as error:  # it cannot be unpickled here
            reply = failure(error)
        try:
            connection.send(reply)
        except OSError:
            return
        except Exception as error:  # it cannot be pickled
            connection.send(failure(error))


def share_gpu(gpu: tuple[str, float] | None) -> None:
    """Take no more than a share of a GPU's memory."""
    if gpu:
        import torch

        name, share = gpu
        torch.cuda.set_per_process_memory_fraction(share, torch.device(name).index)
