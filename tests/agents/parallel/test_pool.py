"""Workers that are started and closed together, and share out a list of calls."""

from __future__ import annotations

import multiprocessing
import threading
import time
from typing import Any

import pytest

from automix.agents.parallel.pool import map_in_order, start_workers
from automix.agents.parallel.process_worker import ProcessWorker
from automix.agents.parallel.worker import InlineWorker, WorkerDied, WorkerError
from automix.core.errors import AutomixError, ConfigError
from tests.agents.parallel.calls import count_up, hang, hang_once, refuse_three, slow_square, where
from tests.agents.parallel.fragile import Deaths, FragileWorker
from tests.agents.parallel.test_process_worker import leftovers


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


def assert_squares(workers: list[Any], items: list[tuple[int, float]]) -> None:
    """Fail if results are not those of the items, in their order and each of them told once."""
    done: list[int] = []
    results = map_in_order(workers, slow_square, items, lambda item, result: done.append(item))
    assert results == [number**2 for number, _ in items]
    assert len(done) == len(items)


def test_results_come_in_the_order_of_the_items_whichever_worker_is_first():
    items = [(number, 0.03 if number % 3 == 0 else 0.0) for number in range(8)]
    for processes, inline in ((0, 1), (1, 1), (2, 0), (3, 1)):
        workers = [DelayedWorker(index) for index in range(processes)]
        assert_squares([*workers, *[InlineWorker()] * inline], items)
        for worker in workers:
            worker.close()
    assert map_in_order([InlineWorker()], slow_square, []) == []


def test_work_is_shared_with_a_free_process():
    """One worker is busy with the first item, so the other does all the rest."""
    workers = [DelayedWorker(0), DelayedWorker(1)]
    busy, *rest = map_in_order(workers, where, [(1.0,), *[(0.01,)] * 5])
    assert len(set(rest)) == 1
    assert busy not in rest
    for worker in workers:
        worker.close()


def test_workers_are_closed_whatever_happens(processes):
    """``processes`` is asked for first, so that its own two are no surprise here."""
    before = sorted(leftovers())
    with start_workers(1) as workers:
        assert [type(worker) for worker in workers] == [InlineWorker]

    def fails() -> None:
        with start_workers(2) as workers:
            assert len(workers) == 2
            assert len(leftovers()) == len(before) + 1
            raise AutomixError("in the middle")

    with pytest.raises(AutomixError, match="in the middle"):
        fails()
    assert sorted(leftovers()) == before


# Deaths -----------------------------------------------------------------------------------------


def test_the_item_of_a_worker_that_died_is_done_again():
    """At each call in turn; the order of results stays, and no item counts twice."""
    items = [(number, 0.0) for number in range(6)]
    for processes, inline in ((1, 0), (2, 0), (3, 0), (1, 1), (2, 1), (3, 1)):
        for call in range(6 - inline * 3):
            deaths = Deaths([call])
            workers = [FragileWorker(index, deaths) for index in range(processes)]
            assert_squares([*workers, *[InlineWorker()] * inline], items)
            assert sum(worker.restarts for worker in workers) == 1


def test_deaths_are_told_in_one_line_each_and_bounded(caplog):
    workers = [FragileWorker(2, Deaths(range(100)), max_restarts=3), FragileWorker(3, Deaths())]
    with pytest.raises(
        WorkerError, match=r"^worker 2 died 4 times \(last: as it should\)$"
    ) as died:
        map_in_order(workers, slow_square, [(number, 0.0) for number in range(9)])
    assert not isinstance(died.value, WorkerDied)
    assert died.value.exit_code == 1
    assert [record.getMessage() for record in caplog.records] == [
        f"worker 2 died (as it should): restarted, {times} of at most 3 times"
        for times in (1, 2, 3)
    ]
    # One that may not be restarted ends the run at its first death.
    with pytest.raises(WorkerError, match=r"^worker 0 died \(as it should\)$"):
        map_in_order([FragileWorker(0, Deaths([0]), max_restarts=0)], slow_square, [(1, 0.0)])


def test_when_one_fails_all_that_are_at_work_are_closed_at_once():
    workers = [FragileWorker(index, Deaths()) for index in range(3)]
    with pytest.raises(ConfigError, match="no threes"):
        map_in_order(workers, refuse_three, [(number,) for number in (1, 2, 3)])
    assert [worker.closed for worker in workers] == [True] * 3


@pytest.mark.fault
def test_a_process_that_hangs_is_killed_and_its_item_done_by_another(tmp_path):
    """The first call may take longer, for the import of torch; here all imports are over."""
    with start_workers(3, step_timeout_s=1.0) as workers:
        for worker in workers[:2]:
            worker.submit(count_up, 1)
            worker.result()
        start = time.monotonic()
        workers[0].submit(hang)
        with pytest.raises(WorkerDied, match="hung for more than 1 s"):
            workers[0].result()
        assert time.monotonic() - start < 10
        workers[0].restart()
        workers[0].submit(count_up, 1)
        assert workers[0].result() == 1
        assert map_in_order(workers[:2], hang_once, [(tmp_path / "hung",)]) == ["done"]
        assert sum(worker.restarts for worker in workers) == 2
