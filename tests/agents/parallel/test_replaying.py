"""State that outlives the worker that holds it."""

from __future__ import annotations

import time

import pytest

from automix.agents.parallel.replaying import ReplayingWorker
from automix.agents.parallel.worker import WorkerLost
from automix.core.errors import ConfigError
from tests.agents.parallel.calls import count_and_fail, count_up
from tests.agents.parallel.fragile import Deaths, FragileWorker


def replaying(*deaths: int, max_restarts: int = 3) -> ReplayingWorker:
    return ReplayingWorker(FragileWorker(0, Deaths(deaths), max_restarts))


def added(worker: ReplayingWorker, *numbers: int) -> list[int]:
    sums = []
    for by in numbers:
        worker.submit(count_up, by)
        sums.append(worker.result())
    return sums


def test_all_of_its_state_is_there_after_any_death():
    for call in range(5):
        assert added(replaying(call), 1, 2, 4, 8, 16) == [1, 3, 7, 15, 31], call
    worker = replaying(2, 4, 7)
    assert added(worker, 1, 2, 4) == [1, 3, 7], "dead again while it came back"
    assert (worker.name, worker.restarts) == ("worker 0", 3)


def test_what_only_reads_is_not_done_again():
    deaths = Deaths([3])
    worker = ReplayingWorker(FragileWorker(0, deaths))
    added(worker, 1)
    for _ in range(2):
        worker.submit(dict.get, "sum", keep=False)
        assert worker.result() == 1
    assert added(worker, 2) == [3]
    assert deaths.calls == 4 + 2


def test_what_a_beginning_replaces_is_forgotten():
    worker = replaying(1)
    added(worker, 1)
    worker.begin((count_up, (10,)))
    assert added(worker, 1) == [11]


class Failing(FragileWorker):
    """Raises what a function raised when its result is asked for, as a process does."""

    def submit(self, function, *args):
        try:
            super().submit(function, *args)
            self.error = None
        except ConfigError as error:
            self.error, self._alive = error, not self._deaths.now()

    def result(self):
        if self._alive and self.error:
            raise self.error
        return super().result()


def test_what_a_call_changed_before_it_failed_is_changed_again():
    worker = ReplayingWorker(Failing(0, Deaths([1, 3])))
    added(worker, 1)
    worker.submit(count_and_fail, 2)
    with pytest.raises(ConfigError, match="after all"):
        worker.result()
    assert added(worker, 4) == [7]
    assert worker.restarts == 2
    for keep in (True, False):
        worker.submit(count_and_fail, 0, keep=keep)
        with pytest.raises(ConfigError, match="after all"):
            worker.result()
    assert added(worker, 8) == [15]


class Hanging(FragileWorker):
    """Never answers."""

    @staticmethod
    def wait_any(workers, timeout_s):
        time.sleep(timeout_s)
        return []


def test_closing_drops_the_state_and_waits_for_nothing_that_hangs():
    inner = FragileWorker(0, Deaths())
    worker = ReplayingWorker(inner)
    added(worker, 1)
    worker.close()
    assert inner.state == {}
    dying = replaying(1)
    added(dying, 1)
    dying.close()
    assert dying.restarts == 0, "one that dies while its state is dropped need not come back"
    hanging = ReplayingWorker(Hanging(0, Deaths()))
    hanging.submit(count_up, 1)
    start = time.monotonic()
    hanging.close(patience_s=0.2)
    assert time.monotonic() - start < 5


def test_one_that_is_lost_is_not_started_again():
    worker = replaying(*range(99), max_restarts=1)
    worker.submit(count_up, 1)
    with pytest.raises(WorkerLost, match="worker 0 died 2 times"):
        worker.result()
    worker.close()
    assert worker.restarts == 1
