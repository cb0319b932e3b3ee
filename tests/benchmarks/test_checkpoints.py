"""The checkpoints benchmark on planted spans, and on a run of seconds."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest

from automix.agents.parallel.worker import InlineWorker
from automix.agents.vec_env.group_vec_env import GroupVecEnv
from benchmarks.measures import checkpoints
from benchmarks.measures.checkpoints import COLLECT, COPY, DEFAULT, ENCODE, WRITE, Part
from benchmarks.measures.scale import SleepingBlock
from tests.agents import tiny_run

SPANS = {
    WRITE: [(1.0, 2.0), (50.0, 51.0), (101.0, 102.0)],
    COLLECT: [(1.0, 1.5), (50.0, 50.5), (101.0, 101.5)],
    ENCODE: [(1.5, 1.6), (1.6, 1.7), (50.5, 50.7), (101.5, 101.7)],
    COPY: [(0.0, 1.0), (60.0, 60.5), (103.0, 109.0)],
}


def part(name: str = DEFAULT, **spans: list[tuple[float, float]]) -> Part:
    return Part(name=name, size=3_000_000, epoch_s=0.4, spans=SPANS | spans, resume=(0.7, 0.1))


def test_the_share_is_that_of_all_but_the_last_until_it_begins():
    # Two writes and the one copy that was made between 1 s and 101 s.
    assert checkpoints.share_taken(part()) == pytest.approx(2.5 / 100)
    assert checkpoints.apart(part()) == pytest.approx(50)
    assert checkpoints.share_taken(part(write=[(1.0, 2.0)])) is None
    assert checkpoints.apart(part(write=[(1.0, 2.0)])) is None


def test_parts_of_a_checkpoint_add_up_to_the_whole():
    (row,) = checkpoints.section([part()]).rows
    assert row["collect s"] == pytest.approx(0.5)
    assert row["encode s"] == pytest.approx(0.2)
    assert row["collect s"] + row["encode s"] + row["write s"] == pytest.approx(row["checkpoint s"])
    assert row["at 2 %"] == pytest.approx(50)
    assert (row["MB"], row["restore s"], row["replay s"]) == (3, 0.7, 0.1)


def test_only_the_run_with_the_defaults_share_is_judged():
    always = part("after every epoch", write=[(0.0, 1.0), (1.0, 2.0)])
    for copied, met in ([], True), ([(60.0, 60.5)], False):
        (target,) = checkpoints.section([part(copy=copied), always]).targets
        assert target.met == met


def test_calls_are_noted_inside_the_block_only_and_those_that_fail_too():
    def halve(number: int) -> float:
        return 1 / number

    owner = SimpleNamespace(halve=halve)
    with checkpoints.watched({"it": (owner, "halve")}) as spans:
        before = time.perf_counter()
        assert owner.halve(4) == 0.25
        after = time.perf_counter()
        with pytest.raises(ZeroDivisionError):
            owner.halve(0)
    assert owner.halve is halve
    (start, end), _ = spans["it"]
    assert before <= start <= end <= after


def test_steps_of_an_environment_are_noted():
    env = GroupVecEnv(SleepingBlock, 1, [InlineWorker()], seed=0)
    env.reset()
    steps = checkpoints.watch_steps(env)
    for _ in range(2):
        env.step(np.zeros(env.num_envs, dtype=np.int64))
    assert len(steps) == 2
    assert all(start <= end for start, end in steps)


def test_a_run_is_observed_until_its_time_is_over_and_gone_on_with(tmp_path):
    settings = tiny_run.settings("checkpoint.share=1")
    told = checkpoints.observed("tiny", settings, tmp_path / "run", seconds=1000)
    # One after each of the 4 steps, and the last one when all is learned is not among them.
    assert len(told.spans[WRITE]) == 4
    assert len(told.spans[COLLECT]) == 4
    assert len(told.spans[ENCODE]) == 8
    assert told.size > 1000
    assert min(told.resume) > 0
    assert told.epoch_s > 0


def test_a_run_that_is_cut_short_is_gone_on_with(tmp_path):
    settings = tiny_run.settings("checkpoint.share=1")
    told = checkpoints.observed("tiny", settings, tmp_path / "run", seconds=0)
    assert told.spans[WRITE] == []
    assert min(told.resume) > 0
