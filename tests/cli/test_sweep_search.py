"""Searches as they are typed: plan, table, exit codes."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

import automix.agents.sweep.plan as planning
import automix.agents.sweep.ray_executor
import automix.agents.sweep.search
from automix.agents.parallel.machine import Capacity
from automix.agents.sweep.search import run_search
from tests.agents.sweep.stand_ins import WORDS
from tests.agents.sweep.test_tune_search import ASHA, PBT, Runner
from tests.cli.conftest import everything_below

RATES = "agent.learning_rate=1e-3,1e-2,1e-1"


def run_here(monkeypatch, **facts):
    """Let searches run in this process, on the surrogate."""
    monkeypatch.setattr(planning, "check", lambda settings, learns: "cpu")
    here = partial(run_search, runners=Runner(**facts))
    monkeypatch.setattr(automix.agents.sweep.search, "run_search", here)


@pytest.mark.parametrize("search", ["asha", "pbt"])
def test_a_plan_is_shown_and_no_disk_is_touched(cli, monkeypatch, search):
    monkeypatch.setattr(
        automix.agents.sweep.ray_executor, "capacity", lambda settings: Capacity(2, 0)
    )
    shown = cli("sweep", *WORDS, RATES, f"sweep.search={search}", "--dry-run", "--json")
    assert shown.code == 0, shown.err
    plan = json.loads(shown.out)["plan"]
    assert (plan["trials"], plan["updates"], plan["judged_every"]) == (3, 2, 1)
    # 16 actions of an epoch each for each trial; the winner's 5 contestants play 2 x 2 x 2 epochs.
    assert plan["classifier_epochs_at_most"] == 3 * 16 + 40
    assert plan["sweep_dir"].endswith(f"_{search}")
    assert plan["combinations"][2] == "agent.learning_rate=0.1"
    assert everything_below(Path.cwd()) == []


def test_the_table_and_the_winner_are_printed(cli, monkeypatch):
    run_here(monkeypatch, stops={0: 2})
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


@pytest.mark.parametrize(("words", "way"), [(ASHA, "resume"), (PBT, "--overwrite")])
def test_failed_trials_end_with_code_5_and_a_way_on(cli, monkeypatch, words, way):
    run_here(monkeypatch, breaks=(0,), copies=words is PBT)
    done = cli("sweep", *words, "--run-dir", "s")
    assert done.code == 5
    assert "1 of 3 trials failed; agent.learning_rate=0.001: it broke" in done.error
    assert way in done.hint


def test_what_cannot_run_is_told_before_anything_starts(cli):
    done = cli("sweep", *WORDS, "agent.net_arch=[8],[16]", "sweep.search=pbt")
    assert done.code == 2
    assert "agent.net_arch cannot vary" in done.error
    assert "agent.learning_rate" in done.hint
    assert everything_below(Path.cwd()) == []


def test_a_schedule_that_is_not_there_is_bad_data(cli):
    done = cli("sweep", "sweep.search=replay", "sweep.replay=nowhere.jsonl")
    assert done.code == 3
    assert "nowhere.jsonl is no schedule" in done.error
