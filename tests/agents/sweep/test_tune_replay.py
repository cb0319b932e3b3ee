"""Replays on a tiny run: a schedule, and nothing but it, says how the agent learns."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import automix.agents.sweep.replay
from automix.agents.jobs.run import run_train
from automix.agents.learning.recorder import METRICS
from automix.agents.sweep import resume_sweep, run_sweep
from automix.agents.sweep.lineage import Schedule, SearchSegment, write_schedule
from automix.agents.sweep.replay import replay_plan_of
from automix.core.errors import ConfigError
from tests.agents import tiny_run
from tests.agents.sweep.stand_ins import WORDS

SMALL = tuple(
    "compare.contestants=[agent,none]" if word.startswith("compare.contestants") else word
    for word in WORDS
)
SLOW, FAST = {"agent.learning_rate": "0.001"}, {"agent.learning_rate": "0.1"}


@pytest.fixture
def schedule(tmp_path) -> Path:
    file = tmp_path / "schedule.jsonl"
    write_schedule(file, Schedule(SMALL, 2, [SearchSegment(0, SLOW), SearchSegment(1, FAST)]))
    return file


def words(file: Path, *more: str) -> list[str]:
    return ["sweep.search=replay", f"sweep.replay={file}", *more]


def test_a_schedule_of_one_stretch_is_a_plain_run(tmp_path):
    file = tmp_path / "schedule.jsonl"
    write_schedule(file, Schedule(SMALL, 2, [SearchSegment(0, FAST)]))
    result = run_sweep(words(file), tmp_path / "s")
    alone = tiny_run.settings("compare.contestants=[agent,none]", "agent.learning_rate=0.1")
    plain = run_train(alone, tmp_path / "alone")
    for name in (METRICS, "trials.jsonl", "export/policy.json"):
        ours, theirs = tmp_path / "s" / "best" / name, tmp_path / "alone" / name
        assert ours.read_bytes() == theirs.read_bytes()
    (agent,) = (row for row in plain["contestants"] if row["name"] == "agent")
    assert result["best"]["figures"]["val_accuracy"] == agent["val_accuracy"]
    assert (result["finished"], result["failed"]) == (1, [])


def test_one_that_was_interrupted_goes_on_without_the_schedule_it_was_given(
    tmp_path, schedule, monkeypatch
):
    run_sweep(words(schedule), tmp_path / "a")
    path, real, asked = tmp_path / "b", automix.agents.sweep.replay.learn_slice, []

    def interrupted(*given):
        asked.append(given)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(automix.agents.sweep.replay, "learn_slice", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_sweep(words(schedule), path)
    assert json.loads((path / "status.json").read_text())["state"] == "interrupted"
    schedule.unlink()
    resume_sweep(path)
    assert len(asked) == 3
    for name in (METRICS, "trials.jsonl"):
        assert (path / "best" / name).read_bytes() == (tmp_path / "a" / "best" / name).read_bytes()
    # What is finished is only read.
    shutil.rmtree(path / "trials")
    assert resume_sweep(path)["best"]["run"] == str(path / "best")


def test_further_words_stand_in_the_place_of_the_schedules(schedule):
    plan, _ = replay_plan_of(words(schedule, "seed=7", "trainer.probe_size=10"))
    (trial,) = plan.trials
    assert (trial.settings.seed, trial.settings.trainer.probe_size) == (7, 10)
    assert trial.settings.task.val_size == 30
    other, _ = replay_plan_of(words(schedule))
    assert other.trials[0].hash != trial.hash


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("agent.learning_rate=0.5", "what the schedule tells"),
        ("agent.total_timesteps=32", "for 2 updates, and it would be 4"),
        ("seed=1,2", "several values"),
        ("workers=3", "is not for a sweep"),
    ],
)
def test_words_that_do_not_fit_the_schedule_are_refused(schedule, word, told):
    with pytest.raises(ConfigError, match=told):
        replay_plan_of(words(schedule, word))


@pytest.mark.parametrize("key", ["agent.net_arch", "task.root", "name", "agent.groups"])
def test_a_schedule_varies_nothing_but_how_the_agent_learns(tmp_path, key):
    file = tmp_path / "schedule.jsonl"
    write_schedule(file, Schedule(SMALL, 2, [SearchSegment(0, {key: "8"})]))
    with pytest.raises(ConfigError):
        replay_plan_of(words(file))
