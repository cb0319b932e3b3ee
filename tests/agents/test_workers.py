"""Processes that run functions, and what is told when they fail."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from functools import partial
from typing import Any

import pytest

from agents.workers import (
    InlineWorker,
    ProcessWorker,
    WorkerError,
    map_in_order,
    start_workers,
)
from automix.errors import AutomixError, ConfigError
from envs import ActionSettings


class DelayedWorker(ProcessWorker):
    """Answers over a pipe as a process does, from a thread that takes its time."""

    def _start(self) -> None:
        self._connection, theirs = multiprocessing.Pipe()
        self._fresh = False
        threading.Thread(target=self._serve, args=(theirs,), daemon=True).start()

    @staticmethod
    def _serve(connection: Any) -> None:
        try:
            while True:
                function, args = connection.recv()
                connection.send((None, function({}, *args)))
        except EOFError:
            connection.close()

    def close(self) -> None:
        self._connection.close()


def slow_square(state: dict[str, Any], number: int, delay: float) -> int:
    time.sleep(delay)
    return number**2


def where(state: dict[str, Any], delay: float) -> int:
    time.sleep(delay)
    return threading.get_ident()


def make(state: dict[str, Any], maker: Any) -> None:
    maker()


def leftovers() -> list[str]:
    children = multiprocessing.active_children()
    return [child.name for child in children if child.name.startswith("automix-worker")]


@pytest.mark.parametrize("processes", [0, 1, 2, 3])
def test_results_come_in_the_order_of_the_items_whoever_is_first(processes):
    workers = [DelayedWorker(index) for index in range(processes)]
    items = [(number, 0.03 if number % 3 == 0 else 0.0) for number in range(8)]
    done = []
    everybody = [*workers, InlineWorker()] if processes != 2 else workers
    results = map_in_order(everybody, slow_square, items, lambda item, result: done.append(1))
    assert results == [number**2 for number in range(8)]
    assert len(done) == 8
    for worker in workers:
        worker.close()


def test_nothing_to_do_is_done_at_once():
    assert map_in_order([InlineWorker()], slow_square, []) == []


def test_work_is_shared_with_a_free_process():
    """One worker is busy with the first item, so the other does all the rest."""
    workers = [DelayedWorker(0), DelayedWorker(1)]
    busy, *rest = map_in_order(workers, where, [(1.0,), *[(0.01,)] * 5])
    assert len(set(rest)) == 1
    assert busy not in rest
    for worker in workers:
        worker.close()


def test_a_worker_keeps_its_state_between_functions():
    worker = InlineWorker()
    worker.submit(dict.__setitem__, "kept", 3)
    worker.result()
    worker.submit(dict.get, "kept")
    assert worker.result() == 3
    worker.close()
    worker.submit(dict.get, "kept")
    assert worker.result() is None


def test_a_process_keeps_state_hands_errors_over_and_lives_on():
    worker = ProcessWorker(7)
    try:
        worker.submit(dict.__setitem__, "kept", 3)
        worker.result()

        worker.submit(dict.__getitem__, "nobody")
        with pytest.raises(WorkerError, match="worker 7 failed: KeyError: 'nobody'") as failed:
            worker.result()
        assert "\n" not in str(failed.value)
        assert failed.value.exit_code == 1

        # What a user can act on comes over as what it is.
        worker.submit(make, partial(ActionSettings, methods=("cutmx",)))
        with pytest.raises(ConfigError, match="Did you mean 'cutmix'") as refused:
            worker.result()
        assert refused.value.hint.startswith("known: ")

        worker.submit(dict.get, "kept")
        assert worker.result() == 3

        (child,) = (c for c in multiprocessing.active_children() if c.name == "automix-worker-7")
        os.kill(child.pid, signal.SIGKILL)
        worker.submit(dict.get, "kept")
        with pytest.raises(WorkerError, match=r"worker 7 died \(SIGKILL\)") as died:
            worker.result()
        assert "workers=1" in died.value.hint
    finally:
        worker.close()
    assert "automix-worker-7" not in leftovers()


def test_one_worker_is_this_process():
    with start_workers(1) as workers:
        assert [type(worker) for worker in workers] == [InlineWorker]


def test_workers_are_closed_whatever_happens(processes):
    """``processes`` is asked for first, so that its own two are no surprise here."""
    before = sorted(leftovers())

    def fails() -> None:
        with start_workers(2) as workers:
            assert len(workers) == 2
            assert len(leftovers()) == len(before) + 1
            raise AutomixError("in the middle")

    with pytest.raises(AutomixError, match="in the middle"):
        fails()
    assert sorted(leftovers()) == before


def test_a_closed_process_is_gone_even_in_the_middle_of_its_work(processes):
    before = leftovers()
    worker = ProcessWorker(9)
    worker.submit(dict.get, "anything")
    worker.close()
    # Sorted: `active_children` comes in no fixed order.
    assert sorted(leftovers()) == sorted(before)
