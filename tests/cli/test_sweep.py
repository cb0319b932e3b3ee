"""``sweep`` as it is typed, grids and searches: plan, table, exit codes."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

import automix.agents.sweep
import automix.agents.sweep.planning.plan as planning
from automix.agents.parallel.machine import Capacity
from automix.agents.sweep import resume_sweep, run_sweep
from automix.agents.sweep.runners.search import run_search
from tests.agents.sweep.stand_ins import ASHA, PBT, WORDS, Inlines, Tuner
from tests.cli.conftest import everything_below

SWEPT = (*WORDS, "agent.learning_rate=1e-3,2e-3")


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(planning, "capacity", lambda settings: Capacity(2, 0))


def run_here(monkeypatch, runner):
    """Let trials take no time and run in this process."""
    monkeypatch.setattr(automix.agents.sweep, "run_sweep", partial(run_sweep, runner=runner))
    monkeypatch.setattr(automix.agents.sweep, "resume_sweep", partial(resume_sweep, runner=runner))


@pytest.fixture
def grids_here(monkeypatch):
    run_here(monkeypatch, Inlines().runs())


def search_here(monkeypatch, **facts):
    """Let searches run on the surrogate."""
    monkeypatch.setattr(planning, "check", lambda settings, learns: "cpu")
    run_here(monkeypatch, partial(run_search, tuners=Tuner(**facts)))


@pytest.mark.usefixtures("two_cores")
def test_a_plan_is_shown_and_no_disk_is_touched(cli):
    shown = cli("sweep", *SWEPT, "seed=0,1,2", "--dry-run", "--json")
    assert shown.code == 0, shown.err
    plan = json.loads(shown.out)["plan"]
    assert shown.err.count("images: digits: 1,797 images") == 1
    assert (plan["trials"], plan["at_once"], plan["cpus_per_trial"]) == (6, 2, 1)
    # 16 actions of an epoch each to learn; 5 contestants on 2 kinds x 2 seeds x 2 epochs.
    assert plan["classifier_epochs"] == 6 * (16 + 40)
    assert plan["minutes_about"] >= 0
    assert plan["combinations"][1] == "agent.learning_rate=0.001 seed=1"
    rates = "agent.learning_rate=1e-3,1e-2,1e-1"
    for search in ("asha", "pbt"):
        shown = cli("sweep", *WORDS, rates, f"sweep.search={search}", "--dry-run", "--json")
        assert shown.code == 0, shown.err
        plan = json.loads(shown.out)["plan"]
        assert (plan["trials"], plan["updates"], plan["judged_every"]) == (3, 2, 1)
        # Each trial learns; the winner alone is compared.
        assert plan["classifier_epochs_at_most"] == 3 * 16 + 40
        assert plan["sweep_dir"].endswith(f"_{search}")
        assert plan["combinations"][2] == "agent.learning_rate=0.1"
    text = cli("sweep", *SWEPT, "ray.address=auto", "--dry-run").out
    assert "as many as fit on the cluster" in text
    assert "  agent.learning_rate=0.002" in text
    assert everything_below(Path.cwd()) == []


@pytest.mark.usefixtures("grids_here")
def test_a_grid_prints_its_ranking(cli):
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


def test_a_search_prints_its_trials_and_the_winner(cli, monkeypatch):
    search_here(monkeypatch, stops={0: 2})
    done = cli("sweep", *ASHA, "sweep.name=first")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "3 trials; validation accuracy while they learned"
    assert [line.split()[1:3] for line in lines[2:5]] == [
        *(["finished", "6/6"], ["finished", "6/6"], ["stopped", "2/6"])
    ]
    assert "compared on held-out tasks 70.0 % validation, 50.0 % test" in done.out
    report = Path.cwd() / "sweeps" / "first" / "best" / "report" / "index.html"
    assert done.err.splitlines()[-1].endswith(f"open {report}")


@pytest.mark.usefixtures("grids_here")
def test_failed_trials_of_a_grid_end_with_code_5_and_a_way_on(cli):
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


def test_failed_trials_of_a_search_end_with_code_5_and_a_way_on(cli, monkeypatch):
    for words, way in ((ASHA, "resume"), (PBT, "--overwrite")):
        search_here(monkeypatch, breaks=(0,), copies=words is PBT)
        outcome = cli("sweep", *words, "--run-dir", way.strip("-"))
        outcome.assert_refused(5, "1 of 3 trials failed; agent.learning_rate=0.001: it broke", way)


@pytest.mark.usefixtures("two_cores")
def test_what_cannot_run_is_told_before_anything_starts(cli):
    for words, code, part in (
        (["agent=ppo,a2d"], 2, "Did you mean 'a2c'?"),
        (["agent=ppo,dqn", "env.actions.space=factored"], 2, "agent=dqn: "),
        (["sweep.gpus_per_trial=4", "seed=1,2"], 4, "asks for 4 GPU, this machine has 0"),
        (["sweep.search=replay", "sweep.replay=nowhere.jsonl"], 3, "nowhere.jsonl is no schedule"),
    ):
        done = cli("sweep", *words)
        assert done.code == code, words
        assert part in done.error, words
        assert everything_below(Path.cwd()) == []
