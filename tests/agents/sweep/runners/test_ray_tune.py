"""Searches by Ray Tune on a tiny run: what they decide, what is left, what goes on after a kill."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from automix.agents.learning.recorder import METRICS
from automix.agents.sweep import resume_sweep, run_sweep
from automix.agents.sweep.planning.schedule import read_schedule
from tests.agents.sweep.stand_ins import WORDS, events_by_trial, metrics, state

pytestmark = pytest.mark.ray

ROOT = Path(__file__).resolve().parents[4]
SHORT = (
    *(word for word in WORDS if not word.startswith(("agent.total", "compare.contestants"))),
    *("agent.total_timesteps=32", "compare.contestants=[agent,none]"),
)
"""Four updates, and a comparison of two."""

PBT = (*SHORT, "sweep.search=pbt", "agent.learning_rate=1e-4,1e-3,1e-1")


def is_whole(run: Path) -> bool:
    names = ("export/policy.json", "result.json", "report/index.html", "trials.jsonl")
    state = json.loads((run / "status.json").read_text())["state"]
    return state == "finished" and all((run / name).is_file() for name in names)


@pytest.fixture(scope="module")
def population(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pbt") / "s"
    run_sweep(PBT, path)
    return path


def test_asha_stops_the_weak_records_the_failed_and_finishes_the_best(tmp_path):
    path = tmp_path / "s"
    rates = "agent.learning_rate=1e-4,1e-3,1e-2,1e30"
    words = [*SHORT, "sweep.search=asha", "sweep.reduction_factor=2", rates]
    result = run_sweep(words, path)
    (failure,) = result["failed"]
    assert failure["words"] == "agent.learning_rate=1e+30"
    assert failure["error"].startswith("ValueError: Expected parameter logits")
    assert "ValueError: Expected parameter logits" in Path(failure["log"]).read_text()
    assert result["finished"] + result["stopped"] == 3
    assert result["finished"] >= 1
    assert is_whole(path / "best")
    best = yaml.safe_load((path / "best.yaml").read_text())
    ended = path / "trials" / best["trial"] / "000004" / METRICS
    assert (path / "best" / METRICS).read_bytes() == ended.read_bytes()
    assert not list(path.glob(".tune*"))
    assert not [file for file in path.rglob("*.pkl*")]


def test_the_winner_of_asha_is_the_run_that_its_words_make(tmp_path):
    from automix.agents.config.compose import load_settings
    from automix.agents.jobs.run import run_train

    path = tmp_path / "s"
    words = [*SHORT, "sweep.search=asha", "agent.learning_rate=1e-3,1e-2"]
    run_sweep(words, path)
    best = yaml.safe_load((path / "best.yaml").read_text())
    settings = load_settings([*best["words"], "workers=1", "device=cpu"])
    run_train(settings, tmp_path / "alone")
    for name in (METRICS, "trials.jsonl"):
        assert (path / "best" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


def test_pbt_copies_the_strong_and_its_winner_is_a_whole_run(population):
    happened = events_by_trial(population)
    assert all(told[:2] == ["planned", "started"] for told in happened.values())
    assert all(told[-1] == "finished" for told in happened.values())
    # One of three is the weakest quarter, three times.
    assert sum(told.count("copied") for told in happened.values()) == 3
    assert is_whole(population / "best")


def test_a_replay_of_the_winner_is_the_winner_bit_by_bit(population, tmp_path):
    told = json.loads((population / "result.json").read_text())
    words = ["sweep.search=replay", f"sweep.replay={population / 'schedule.jsonl'}"]
    result = run_sweep(words, tmp_path / "same")
    assert is_whole(tmp_path / "same" / "best")
    for name in (METRICS, "trials.jsonl"):
        theirs, ours = population / "best" / name, tmp_path / "same" / "best" / name
        assert ours.read_bytes() == theirs.read_bytes()
    assert result["best"]["figures"] == told["best"]["figures"]
    run_sweep([*words, "seed=5"], tmp_path / "other")
    other = tmp_path / "other" / "best" / METRICS
    assert other.read_bytes() != (population / "best" / METRICS).read_bytes()


def test_pb2_explores_inside_its_intervals(tmp_path):
    path = tmp_path / "s"
    ranges = ("agent.learning_rate=interval(1e-4,1e-1)", "agent.n_epochs=interval(1,3)")
    result = run_sweep([*SHORT, "sweep.search=pb2", *ranges, "sweep.trials=4"], path)
    assert (result["finished"], result["failed"]) == (4, [])
    drawn = {tuple(row["values"].values()) for row in result["ranking"]}
    tried = set()
    for file in path.glob("trials/*/*/begun.json"):
        values = json.loads(file.read_text())["values"]
        assert 1e-4 <= float(values["agent.learning_rate"]) <= 1e-1
        assert values["agent.n_epochs"] in ("1", "2", "3")
        tried.add(tuple(values.values()))
    assert len(drawn) == 4
    assert tried > drawn
    assert read_schedule(path / "schedule.jsonl").updates == 4
    assert is_whole(path / "best")


@pytest.mark.fault
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_a_search_that_was_killed_goes_on_and_ends_as_one_that_was_left_alone(
    population, tmp_path, sent
):
    path = tmp_path / "s"
    command = [sys.executable, str(ROOT / "run.py"), "sweep", *PBT, "--run-dir", str(path)]
    with (tmp_path / "out").open("w") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out)
        patience = time.monotonic() + 200
        while len(list(path.glob("trials/*/*/ended.json"))) < 5:
            assert process.poll() is None, (tmp_path / "out").read_text()
            assert time.monotonic() < patience
            time.sleep(0.05)
        process.send_signal(sent)
        assert process.wait(100) == (143 if sent == signal.SIGTERM else -sent)
    if sent == signal.SIGTERM:
        assert state(path) == "interrupted"
    result = resume_sweep(path)
    assert metrics(path) == metrics(population)
    for name in (METRICS, "trials.jsonl"):
        theirs, ours = population / "best" / name, path / "best" / name
        assert ours.read_bytes() == theirs.read_bytes()
    left_alone = json.loads((population / "result.json").read_text())
    assert result["ranking"] == left_alone["ranking"]
    assert not list(path.glob(".tune*"))
