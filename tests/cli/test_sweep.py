"""``sweep`` as it is typed: plan, result, exit codes."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

import automix.agents.sweep
import automix.agents.sweep.cost
import automix.agents.sweep.ray_executor
from automix.agents.parallel.machine import Capacity
from automix.agents.sweep import resume_sweep, run_sweep
from tests.agents.sweep.stand_ins import WORDS, Inlines, toy
from tests.cli.conftest import everything_below

SWEPT = (*WORDS, "agent.learning_rate=1e-3,2e-3")


@pytest.fixture
def no_ray(monkeypatch):
    """Trials take no time and run in this process."""
    words = {"job": toy, "executors": Inlines()}
    monkeypatch.setattr(automix.agents.sweep, "run_sweep", partial(run_sweep, **words))
    monkeypatch.setattr(automix.agents.sweep, "resume_sweep", partial(resume_sweep, **words))


def test_a_plan_is_shown_and_no_disk_is_touched(cli, monkeypatch):
    monkeypatch.setattr(
        automix.agents.sweep.ray_executor, "capacity", lambda settings: Capacity(2, 0)
    )
    shown = cli("sweep", *SWEPT, "seed=0,1,2", "--dry-run", "--json")
    assert shown.code == 0, shown.err
    plan = json.loads(shown.out)["plan"]
    assert (plan["trials"], plan["at_once"], plan["cpus_per_trial"]) == (6, 2, 1)
    # 16 actions of an epoch each to learn; 5 contestants on 2 kinds x 2 seeds x 2 epochs.
    assert plan["classifier_epochs"] == 6 * (16 + 40)
    assert plan["minutes_about"] >= 0
    assert plan["combinations"][1] == "agent.learning_rate=0.001 seed=1"
    assert everything_below(Path.cwd()) == []
    text = cli("sweep", *SWEPT, "ray.address=auto", "--dry-run").out
    assert "as many as fit on the cluster" in text
    assert "  agent.learning_rate=0.002" in text


@pytest.mark.usefixtures("no_ray")
def test_a_sweep_prints_its_ranking(cli):
    done = cli("sweep", *SWEPT, "seed=0,1", "sweep.name=first")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "4 of 4 trials; settings by validation accuracy"
    assert lines[2].split()[:2] == ["0.002", "71.0"]
    assert "agent.learning_rate 100 %" in done.out
    path = Path.cwd() / "sweeps" / "first"
    assert f"run directory: {path}" in done.err
    assert f"open {path / 'report' / 'index.html'}" in done.err.splitlines()[-1]
    files = {path.name for path in path.iterdir()}
    assert files == {
        *("sweep.yaml", "ledger.jsonl", "summary.csv", "status.json", "command.txt", ".lock"),
        *("report", "trials", "attempts"),
    }


@pytest.mark.usefixtures("no_ray")
def test_failed_trials_end_with_code_5_and_a_way_on(cli):
    done = cli("sweep", *SWEPT, "seed=0,13", "--run-dir", "s", "--json")
    assert done.code == 5
    result = json.loads(done.out)
    assert (result["finished"], len(result["failed"])) == (2, 2)
    assert "2 of 4 trials failed; agent.learning_rate=0.001 seed=13: it broke" in done.error
    assert result["failed"][0]["log"] in done.error
    assert done.hint.endswith(f"python run.py resume {Path.cwd() / 's'}")
    again = cli("resume", "s", "--json")
    assert again.code == 5  # nobody has mended it
    assert json.loads(again.out) | {"wall_s": 0} == result | {"wall_s": 0}
    ledger = (Path("s") / "ledger.jsonl").read_text()
    assert (ledger.count('"finished"'), ledger.count('"failed"')) == (2, 4)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["agent=ppo,a2d"], 2, "Did you mean 'a2c'?"),
        (["agent.gamma=0.9,2", "seed=1,2"], 2, "agent.gamma=2 seed=1: "),
        (["sweep.serch=grid", "seed=1,2"], 2, "Did you mean 'search'?"),
        (["agent=ppo,dqn", "env.actions.space=factored"], 2, "agent=dqn: "),
        (["sweep.gpus_per_trial=4", "seed=1,2"], 4, "asks for 4 GPU, this machine has 0"),
        (["sweep.cpus_per_trial=64", "seed=1,2"], 4, "asks for 64 CPU, this machine has 2"),
    ],
)
def test_what_cannot_run_is_told_before_anything_starts(cli, monkeypatch, words, code, told):
    monkeypatch.setattr(
        automix.agents.sweep.ray_executor, "capacity", lambda settings: Capacity(2, 0)
    )
    done = cli("sweep", *words)
    assert done.code == code
    assert told in done.error
    assert everything_below(Path.cwd()) == []
