"""Processes that run functions, and what is said when they fail."""

from __future__ import annotations

import multiprocessing
import os
import signal
from functools import partial
from typing import Any

import pytest

from automix.agents.parallel.pool import start_workers
from automix.agents.parallel.process_worker import ProcessWorker
from automix.agents.parallel.worker import WorkerDied, WorkerError
from automix.core.errors import ConfigError
from automix.envs import ActionSettings
from tests.agents.parallel.calls import count_up, die, unreadable


def make(state: dict[str, Any], maker: Any) -> None:
    maker()


def leftovers() -> list[str]:
    children = multiprocessing.active_children()
    return [child.name for child in children if child.name.startswith("automix-worker")]


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


def test_a_closed_process_is_gone_even_in_the_middle_of_its_work(processes):
    before = leftovers()
    worker = ProcessWorker(9)
    worker.submit(dict.get, "anything")
    worker.close()
    # Sorted: `active_children` comes in no fixed order.
    assert sorted(leftovers()) == sorted(before)


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
