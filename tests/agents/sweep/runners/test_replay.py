"""Replays on a tiny run: a schedule, and nothing but it, says how the agent learns."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import automix.agents.sweep.runners.replay
from automix.agents.jobs.run import run_train
from automix.agents.learning.recorder import METRICS
from automix.agents.sweep import resume_sweep, run_sweep
from automix.agents.sweep.planning.schedule import Schedule, SearchSegment, write_schedule
from tests.agents import tiny_run
from tests.agents.sweep.stand_ins import WORDS, events, state

SMALL = tuple(
    "compare.contestants=[agent,none]" if word.startswith("compare.contestants") else word
    for word in WORDS
)
SLOW, FAST = {"agent.learning_rate": "0.001"}, {"agent.learning_rate": "0.1"}


def replay(tmp_path: Path, *segments: SearchSegment) -> list[str]:
    file = tmp_path / "schedule.jsonl"
    write_schedule(file, Schedule(SMALL, 2, segments))
    return ["sweep.search=replay", f"sweep.replay={file}"]


def test_a_schedule_of_one_segment_is_a_plain_run(tmp_path):
    result = run_sweep(replay(tmp_path, SearchSegment(0, FAST)), tmp_path / "s")
    alone = tiny_run.settings("compare.contestants=[agent,none]", "agent.learning_rate=0.1")
    plain = run_train(alone, tmp_path / "alone")
    for name in (METRICS, "trials.jsonl", "export/policy.json"):
        ours, theirs = tmp_path / "s" / "best" / name, tmp_path / "alone" / name
        assert ours.read_bytes() == theirs.read_bytes()
    (agent,) = (row for row in plain["contestants"] if row["name"] == "agent")
    assert result["best"]["figures"]["val_accuracy"] == agent["val_accuracy"]
    assert (result["finished"], result["failed"]) == (1, [])


def test_one_that_was_interrupted_goes_on_without_the_schedule_it_was_given(tmp_path, monkeypatch):
    words = replay(tmp_path, SearchSegment(0, SLOW), SearchSegment(1, FAST))
    run_sweep(words, tmp_path / "a")
    path, real, asked = tmp_path / "b", automix.agents.sweep.runners.replay.learn_slice, []

    def interrupted(*given):
        asked.append(given)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(automix.agents.sweep.runners.replay, "learn_slice", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_sweep(words, path)
    assert state(path) == "interrupted"
    assert [event for event, _ in events(path)] == ["planned", "started", "interrupted"]
    (tmp_path / "schedule.jsonl").unlink()
    resume_sweep(path)
    assert len(asked) == 3
    for name in (METRICS, "trials.jsonl"):
        assert (path / "best" / name).read_bytes() == (tmp_path / "a" / "best" / name).read_bytes()
    # What is finished is only read.
    shutil.rmtree(path / "trials")
    assert resume_sweep(path)["best"]["run"] == str(path / "best")
