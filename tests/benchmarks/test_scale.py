"""The scale benchmark on planted figures, and its stand-ins without Ray."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest

from automix.agents.parallel.worker import InlineWorker
from automix.agents.vec_env.group_vec_env import GroupVecEnv
from automix.core.errors import ConfigError
from benchmarks.measures import scale
from benchmarks.measures.ray_crowd import Crowd, CrowdWorker
from benchmarks.measures.scale import GROUPS, HOSTED, MEMBERS, Driven, SleepingBlock


def found(driver: str, workers: int, **walls: float) -> Driven:
    lengths = {float(name[1:]): wall for name, wall in walls.items()}
    return Driven(driver, workers, lengths, driver_s=0.05)


def test_busy_is_the_share_of_a_step_that_workers_slept():
    (row,) = scale.section([found(GROUPS, 100, s0=0.2, s1=1.25, s5=5.0)]).rows
    assert row["busy %, steps of 1 s"] == pytest.approx(80)
    assert row["busy %, steps of 5 s"] == pytest.approx(100)
    assert row["ms, no sleep"] == pytest.approx(200)
    assert row["worker steps/s, no sleep"] == pytest.approx(500)
    assert row["driver's core ms, a worker step"] == pytest.approx(0.5)


def test_only_the_most_workers_in_epochs_of_seconds_are_judged():
    few = found(GROUPS, 50, s0=1.0, s1=9.0, s2=9.0)
    for wall, met in (2.1, True), (2.11, False):
        (target,) = scale.section([few, found(HOSTED, 200, s0=1.0, s1=9.0, s2=wall)]).targets
        assert target.met == met


def test_steps_of_each_length_are_timed_with_their_sleep_and_those_of_none_without(monkeypatch):
    slept = []
    clock = SimpleNamespace(now=0.0)

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.now += seconds

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    env = GroupVecEnv(SleepingBlock, 2, [InlineWorker()], seed=0)
    told = scale.driven(GROUPS, env, 2, repeats=1)
    # One worker holds both blocks here, and sleeps for them one after the other.
    assert told.walls == pytest.approx({0.0: 0.0} | {s: 2 * s for s in scale.LENGTHS})
    assert set(slept) == {0.0, *scale.LENGTHS}


def test_a_sleeping_block_answers_as_a_group_of_trainings_does():
    env = GroupVecEnv(SleepingBlock, 3, [InlineWorker(), InlineWorker()], seed=0)
    assert env.reset().shape == (3 * MEMBERS, scale.NUMBERS)
    shown, rewards, dones, infos = env.step(np.zeros(3 * MEMBERS, dtype=np.int64))
    assert shown.shape == (3 * MEMBERS, scale.NUMBERS)
    assert len(infos) == len(rewards) == 3 * MEMBERS
    assert set(infos[0]) == {"mix", "diverged", "epochs", "val_accuracy", "passes", "task"}
    assert not dones.any()


def note(state: dict, value: int) -> list[int]:
    state.setdefault("noted", []).append(value)
    return state["noted"]


def refuse(state: dict) -> None:
    raise ConfigError("no")


def test_each_worker_of_a_crowd_has_a_state_of_its_own():
    crowd = Crowd()

    def run(worker, function, *args):
        return crowd.run(worker, function, args)

    assert run(0, note, 1) == (None, [1])
    assert run(1, note, 2) == (None, [2])
    assert run(0, note, 3) == (None, [1, 3])
    error, _ = run(0, refuse)
    assert isinstance(error, ConfigError)


def test_a_worker_of_a_crowd_speaks_for_itself():
    asked = []
    remote = SimpleNamespace(run=SimpleNamespace(remote=lambda *words: asked.append(words)))
    CrowdWorker(7, remote).submit(note, 5)
    assert asked == [(7, note, (5,))]


@pytest.mark.ray
def test_workers_of_a_crowd_work_at_the_same_time():
    from automix.agents.config.settings import RaySettings
    from automix.agents.parallel.ray_session import ray_session
    from benchmarks.measures.ray_crowd import crowd

    with ray_session(RaySettings(), 1), crowd(4, 2) as workers:
        for worker in workers:
            worker.submit(meet, 2)
        assert [worker.result() for worker in workers] == [True] * 4


CAME: list[int] = []


def meet(state: dict, expected: int) -> bool:
    """Wait until all of this process have come: who is served alone gives up."""
    CAME.append(1)
    latest = time.monotonic() + 60
    while len(CAME) < expected and time.monotonic() < latest:
        time.sleep(0.01)
    return len(CAME) >= expected
