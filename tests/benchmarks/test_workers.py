"""The workers benchmark on planted figures; no process is started."""

from __future__ import annotations

import time

import gymnasium
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv

from benchmarks.measures import workers
from benchmarks.measures.workers import NO_STATES, PIPES, RAY, RAY_ENV, SUBPROC, Case, Took

GROUPS = {
    (PIPES, 1): Took(8.0, 6.0),
    (PIPES, 2): Took(4.0, 3.0),
    (RAY, 1): Took(9.0, 6.6),
    (RAY, 2): Took(5.0, 4.4),
}
SINGLES = {SUBPROC: Took(2.0, 1.0), RAY_ENV: Took(2.1, 1.25), NO_STATES: Took(2.0, 1.0)}


def test_each_crew_is_compared_with_one_worker_and_ray_with_pipes():
    rows = workers.section(GROUPS, SINGLES).rows
    told = [(row["what"], row["workers"], row["against"]) for row in rows if "against" in row]
    assert told == [
        ("GroupVecEnv, pipes", 2, "1 worker"),
        ("GroupVecEnv, Ray", 2, "1 worker"),
        ("GroupVecEnv, Ray", 1, "pipes"),
        ("GroupVecEnv, Ray", 2, "pipes"),
        (RAY_ENV, 2, SUBPROC),
        (NO_STATES, 2, SUBPROC),
    ]
    times = [(row["times"], row["times, core time"]) for row in rows if "against" in row]
    wanted = [(2.0, 2.0), (1.8, 1.5), (8 / 9, 1 / 1.1), (0.8, 3 / 4.4), (2 / 2.1, 0.8), (1.0, 1.0)]
    assert times == [pytest.approx(pair) for pair in wanted]


def test_steps_a_second_are_those_of_all_environments():
    rows = workers.section(GROUPS, SINGLES).rows
    assert [row["env steps/s"] for row in rows if "env steps/s" in row] == pytest.approx(
        [64 / 8, 64 / 4, 64 / 9, 64 / 5, 2 * 20 / 2, 2 * 20 / 2.1, 2 * 20 / 2]
    )


def test_two_are_wanted_to_be_1_8_times_one_and_ray_within_5_percent():
    assert [target.met for target in workers.section(GROUPS, SINGLES).targets] == [True] * 3
    slow = {(RAY, 2): Took(5.1, 1.0), (PIPES, 2): Took(4.5, 1.0)}
    late = {RAY_ENV: Took(2.2, 1.0)}
    section = workers.section(GROUPS | slow, SINGLES | late)
    assert [target.met for target in section.targets] == [False] * 3


def test_one_core_has_no_second_worker_to_judge():
    one = {crew: took for crew, took in GROUPS.items() if crew[1] == 1}
    targets = workers.section(one, SINGLES).targets
    assert [target.measured for target in targets[:2]] == ["nothing was measured"] * 2


@pytest.mark.parametrize(
    ("others", "together", "least"), [([], True, 0.0), ([3.0], True, 3.0), ([3.0, 5.0], False, 5.0)]
)
def test_core_time_is_that_of_the_busiest_worker(others, together, least):
    env = DummyVecEnv([lambda: gymnasium.make("CartPole-v1")])
    reports = iter([[0.0] * len(others), [2 * seconds for seconds in others]])
    start = time.process_time()
    case = Case(env, lambda: next(reports), together=together, steps=3)
    case()
    case()
    own = (time.process_time() - start) / 2
    core = case.core()
    assert least <= core
    # This process's own part comes on top, unless it works at the same time.
    assert core <= (max(least, own) if together else least + own)
    assert core > least or (together and least)
