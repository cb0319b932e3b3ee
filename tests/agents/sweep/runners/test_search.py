"""A search from end to end without Ray: what is written, what goes on, what is told."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path

import pytest
import yaml

import automix.agents.sweep.planning.plan as planning
from automix.agents.sweep import resume_sweep, run_sweep
from automix.agents.sweep.planning.schedule import read_schedule
from automix.agents.sweep.runners.search import run_search
from automix.core.errors import ConfigError
from tests.agents.sweep.stand_ins import (
    ASHA,
    PBT,
    UPDATES,
    Tuner,
    events,
    events_by_trial,
    metrics,
    state,
)

RATES = ("0.001", "0.01", "0.1")


@pytest.fixture(autouse=True)
def nothing_is_checked_on_images(monkeypatch):
    monkeypatch.setattr(planning, "check", lambda settings, learns: "cpu")


def searched(words, path, tuner):
    return run_sweep(words, path, runner=partial(run_search, tuners=tuner))


def resumed(path, tuner):
    return resume_sweep(path, runner=partial(run_search, tuners=tuner))


def hashes(path) -> list[str]:
    return [trial for event, trial in events(path) if event == "planned"]


def test_the_weak_are_stopped_and_the_best_is_told_with_a_command_that_makes_it_again(tmp_path):
    path, tuner = tmp_path / "s", Tuner(stops={0: 2})
    result = searched(ASHA, path, tuner)
    weak, *others = hashes(path)
    assert (result["trials"], result["finished"], result["stopped"]) == (3, 2, 1)
    assert events_by_trial(path)[weak] == ["planned", "started", "stopped"]
    assert all(events_by_trial(path)[name] == ["planned", "started", "finished"] for name in others)
    best = yaml.safe_load((path / "best.yaml").read_text())
    scores = {row["trial"]: row["val_accuracy"] for row in result["ranking"]}
    assert best["trial"] == max(others, key=scores.__getitem__)
    assert best["val_accuracy"] == scores[best["trial"]]
    rate = RATES[hashes(path).index(best["trial"])]
    assert best["words"][-1] == f"agent.learning_rate={rate}"
    assert shlex.split(best["command"]) == ["python", "run.py", "train", *best["words"]]
    ((part, settings, command, run),) = tuner.finished
    assert part == f"{best['trial']}/{UPDATES:06d}"
    assert settings.agent.learning_rate == float(rate)
    assert (command, run) == (["train", *best["words"]], path / "best")
    assert result["best"]["figures"]["val_accuracy"] == 0.7
    head, *rows = (line.split(",") for line in (path / "summary.csv").read_text().splitlines())
    columns = "trial agent.learning_rate state update val_accuracy copies error"
    assert head == columns.split()
    assert [row[1:4] for row in rows] == [
        ["0.001", "stopped", "2"],
        ["0.01", "finished", "6"],
        ["0.1", "finished", "6"],
    ]
    assert state(path) == "finished"
    # A finished search runs nothing again.
    again = Tuner()
    assert searched(ASHA, path, again) == result
    assert resumed(path, again) == result
    assert (again.learned, again.finished) == (0, [])


def test_a_population_leaves_a_schedule(tmp_path):
    path = tmp_path / "s"
    # The first is the only one that is not stopped, and so the winner.
    result = searched(PBT, path, Tuner(stops={1: 2, 2: 4}, copies=True))
    first, *_, last = hashes(path)
    assert events_by_trial(path)[first] == ["planned", "started", "copied", "finished"]
    schedule = read_schedule(path / "schedule.jsonl")
    assert schedule.updates == UPDATES
    assert not any("learning_rate" in one or "sweep." in one for one in schedule.overrides)
    best = result["best"]
    assert best["command"].startswith("python run.py sweep sweep.search=replay sweep.replay=")
    assert best["trial"] == first
    assert [(one.update, one.trial) for one in schedule.segments] == [(0, last), (4, first)]


@pytest.mark.parametrize("words", [ASHA, PBT], ids=["asha", "pbt"])
def test_one_that_was_interrupted_goes_on_and_ends_as_one_that_was_left_alone(tmp_path, words):
    copies = words is PBT
    left_alone = searched(words, tmp_path / "a", Tuner(copies=copies))
    for slices in (0, 4, 8):
        path = tmp_path / str(slices)
        with pytest.raises(KeyboardInterrupt):
            searched(words, path, Tuner(copies=copies, interrupts=slices))
        assert state(path) == "interrupted"
        again = Tuner(copies=copies)
        result = resumed(path, again)
        assert again.learned == 9 - slices
        assert metrics(path) == metrics(tmp_path / "a")
        assert result["ranking"] == left_alone["ranking"]
        assert result["best"]["val_accuracy"] == left_alone["best"]["val_accuracy"]


def test_one_failing_trial_is_recorded_the_others_go_on_and_resume_tries_it_again(tmp_path):
    path = tmp_path / "s"
    result = searched(ASHA, path, Tuner(breaks=(1,)))
    broken = hashes(path)[1]
    (failure,) = result["failed"]
    assert (failure["trial"], failure["error"]) == (broken, "it broke")
    assert failure["words"] == "agent.learning_rate=0.01"
    assert "it broke" in Path(failure["log"]).read_text()
    assert result["finished"] == 2
    assert state(path) == "failed"
    again = Tuner()
    mended = resumed(path, again)
    # Two of its three slices, and nobody else's.
    assert again.learned == 2
    assert (mended["finished"], mended["failed"]) == (3, [])
    result = searched(ASHA, tmp_path / "all", Tuner(breaks=(0, 1, 2)))
    assert (result["best"], len(result["failed"])) == (None, 3)


def test_a_failure_in_a_population_is_told_whether_or_not_the_trial_goes_on(tmp_path):
    result = searched(PBT, tmp_path / "copies", Tuner(copies=True, breaks=(0,)))
    (failure,) = result["failed"]
    assert failure["error"] == "it broke"
    assert result["finished"] == 3
    path = tmp_path / "stays"
    result = searched(PBT, path, Tuner(breaks=(1,)))
    assert (result["finished"], len(result["failed"])) == (2, 1)
    assert events_by_trial(path)[hashes(path)[1]] == ["planned", "started", "failed"]


def test_another_sweep_is_not_mixed_in(tmp_path):
    path = tmp_path / "s"
    searched(ASHA, path, Tuner())
    before = (path / "ledger.jsonl").read_text()
    for word in ("sweep.interval=3", "agent.learning_rate=1e-3,1e-2", "sweep.search=pbt"):
        other = [one for one in ASHA if one.partition("=")[0] != word.partition("=")[0]] + [word]
        with pytest.raises(ConfigError, match="holds another search"):
            searched(other, path, Tuner())
    grid = [one for one in ASHA if not one.startswith("sweep.")]
    with pytest.raises(ConfigError, match="holds another search"):
        run_sweep(grid, path)
    assert (path / "ledger.jsonl").read_text() == before
    words = [*ASHA[:-1], "agent.learning_rate=1e-3,1e-2"]
    result = run_sweep(words, path, overwrite=True, runner=partial(run_search, tuners=Tuner()))
    assert result["trials"] == 2
