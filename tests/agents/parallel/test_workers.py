"""Processes that run functions, and what is told when they fail."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import weakref
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from automix.agents.parallel.pool import map_in_order, start_workers
from automix.agents.parallel.process_worker import ProcessWorker
from automix.agents.parallel.replaying import ReplayingWorker
from automix.agents.parallel.worker import InlineWorker, WorkerDied, WorkerError
from automix.core.errors import AutomixError, ConfigError, ResourceError
from automix.envs import ActionSettings
from tests.agents.parallel.fragile import Deaths, FragileWorker


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


def refuse_three(state: dict[str, Any], number: int) -> int:
    if number == 3:
        raise ConfigError("no threes")
    return number


def count_up(state: dict[str, Any], by: int) -> int:
    state["sum"] = state.get("sum", 0) + by
    return int(state["sum"])


def die(state: dict[str, Any]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang(state: dict[str, Any]) -> None:
    time.sleep(60)


def hang_once(state: dict[str, Any], mark: Path) -> str:
    if not mark.exists():
        mark.touch()
        time.sleep(60)
    return "done"


def unreadable(state: dict[str, Any]) -> Any:
    return threading.Lock()


def greedy(state: dict[str, Any], error: Exception) -> None:
    raise error


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


# Deaths -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("inline", [0, 1])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_the_item_of_a_worker_that_died_is_done_again(processes, inline):
    """At each call in turn; the order of results stays, and no item counts twice."""
    items = [(number, 0.0) for number in range(6)]
    for call in range(6 - inline * 3):
        deaths = Deaths([call])
        workers = [FragileWorker(index, deaths) for index in range(processes)]
        done = []
        everybody = [*workers, *[InlineWorker()] * inline]
        results = map_in_order(
            everybody, slow_square, items, lambda item, result, done=done: done.append(1)
        )
        assert results == [number**2 for number in range(6)]
        assert len(done) == 6
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


def test_a_worker_that_may_not_be_restarted_ends_the_run_at_its_first_death():
    with pytest.raises(WorkerError, match=r"^worker 0 died \(as it should\)$"):
        map_in_order([FragileWorker(0, Deaths([0]), max_restarts=0)], slow_square, [(1, 0.0)])


def test_when_one_fails_all_that_are_at_work_are_closed_at_once():
    workers = [FragileWorker(index, Deaths()) for index in range(3)]
    with pytest.raises(ConfigError, match="no threes"):
        map_in_order(workers, refuse_three, [(number,) for number in (1, 2, 3)])
    assert [worker.closed for worker in workers] == [True] * 3


def test_a_lasting_worker_has_all_of_its_state_after_any_death():
    for call in range(5):
        deaths = Deaths([call])
        worker = ReplayingWorker(FragileWorker(0, deaths))
        sums = []
        for by in (1, 2, 4, 8, 16):
            worker.submit(count_up, by)
            sums.append(worker.result())
        assert sums == [1, 3, 7, 15, 31]


def test_a_lasting_worker_dies_while_it_comes_back_and_comes_back():
    worker = ReplayingWorker(FragileWorker(0, Deaths([2, 4, 7])))
    for by in (1, 2, 4):
        worker.submit(count_up, by)
        found = worker.result()
    assert found == 7


def test_what_only_reads_is_not_done_again():
    deaths = Deaths([3])
    worker = ReplayingWorker(FragileWorker(0, deaths))
    worker.submit(count_up, 1)
    worker.result()
    for _ in range(2):
        worker.submit(dict.get, "sum", keep=False)
        assert worker.result() == 1
    worker.submit(count_up, 2)
    assert worker.result() == 3
    assert deaths.calls == 4 + 2


def test_a_lasting_worker_forgets_what_a_beginning_replaces():
    worker = ReplayingWorker(FragileWorker(0, Deaths([1])))
    worker.submit(count_up, 1)
    worker.result()
    worker.begin((count_up, (10,)))
    worker.submit(count_up, 1)
    assert worker.result() == 11


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory.\nMore"), MemoryError()]
)
def test_too_little_memory_is_an_error_with_a_hint(error, monkeypatch):
    """Torch's is raised here; the cache of the device is emptied once the call is over."""
    emptied = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(1))
    with pytest.raises(ResourceError, match=r"^out of memory: (CUDA out of|MemoryError)") as short:
        InlineWorker().submit(greedy, error)
    assert "agent.stacked_groups" in short.value.hint
    assert "device=cpu" in short.value.hint
    assert "\n" not in str(short.value)
    assert emptied == [1]


def test_what_a_call_held_is_free_when_its_memory_was_not_enough():
    held = []

    def greedy_call(state):
        tensor = torch.ones(3)
        held.append(weakref.ref(tensor))
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(ResourceError):
        InlineWorker().submit(greedy_call)
    assert held[0]() is None


def test_what_cannot_come_back_from_a_process_is_told_and_it_lives_on(processes):
    worker = processes[0]
    worker.submit(unreadable)
    with pytest.raises(WorkerError, match="failed: TypeError: cannot pickle"):
        worker.result()
    worker.submit(dict.get, "nothing")
    assert worker.result() is None


@pytest.mark.fault
def test_a_killed_process_is_restarted_with_empty_state_up_to_its_bound(caplog):
    worker = ProcessWorker(4, max_restarts=1)
    try:
        worker.submit(count_up, 5)
        assert worker.result() == 5
        worker.submit(die)
        with pytest.raises(WorkerDied, match=r"worker 4 died \(SIGKILL\)"):
            worker.result()
        worker.restart()
        assert worker.restarts == 1
        worker.submit(count_up, 5)
        assert worker.result() == 5
        worker.submit(die)
        with pytest.raises(WorkerDied):
            worker.result()
        with pytest.raises(WorkerError, match=r"^worker 4 died 2 times \(last: SIGKILL\)$"):
            worker.restart()
    finally:
        worker.close()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "automix-worker-4" not in leftovers()


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


@pytest.mark.fault
def test_a_worker_that_was_closed_begins_anew():
    before = sorted(leftovers())
    with start_workers(2) as workers:
        workers[0].submit(count_up, 1)
        workers[0].result()
        workers[0].close()
        assert sorted(leftovers()) == before
        workers[0].submit(count_up, 1)
        assert workers[0].result() == 1
        assert workers[0].restarts == 0
    assert sorted(leftovers()) == before
