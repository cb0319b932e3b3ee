"""Rows 1 to 3, 9, 10: workers that are killed, hang or lack memory, here and in Ray."""

from __future__ import annotations

import json
import os
import signal
from functools import partial
from pathlib import Path

import pytest

from agents.jobs import run_train
from tests.agents import tiny_run
from tests.faults.commands import Command, run
from tests.faults.killing import results_of
from tests.faults.trouble import Trouble

pytestmark = pytest.mark.fault

WORDS = (*tiny_run.WORDS, "compare.contestants=[agent,none]", "compare.seeds=1", "checkpoint.share=1")
BACKENDS = ["local", pytest.param("ray", marks=pytest.mark.ray)]
CAUSE = {"local": "SIGKILL", "ray": "killed or crashed"}
"""Ray does not say which signal it was."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, object]:
    path = tmp_path_factory.mktemp("undisturbed") / "run"
    run_train(tiny_run.settings(*WORDS), path)
    return told(path)


def told(run: Path) -> dict[str, object]:
    """Return what a run came to; how work was spread is no part of it."""
    results = results_of(run)
    del results["config.yaml"]
    return results


def train(folder: Path, trouble: Trouble, backend: str, *words: str) -> Command:
    own = (f"backend={backend}", "workers=2", *words, "--run-dir", "run")
    return Command(folder, "train", *WORDS, *own, fault=trouble)


def status(run: Path) -> dict[str, object]:
    return dict(json.loads((run / "status.json").read_text(encoding="utf-8")))


def warnings(run: Path) -> list[str]:
    lines = (run / "log.txt").read_text(encoding="utf-8").splitlines()
    return [line.partition(" WARNING ")[2] for line in lines if " WARNING " in line]


@pytest.mark.row(1)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_killed_worker_is_replaced_and_nothing_changes(tmp_path, undisturbed, backend):
    trouble = Trouble(tmp_path)
    command = train(tmp_path, trouble, backend)
    os.kill(trouble.waiting(), signal.SIGKILL)
    outcome = command.outcome()
    assert outcome.code == 0, outcome.err
    assert told(tmp_path / "run") == undisturbed
    (line,) = warnings(tmp_path / "run")
    assert line.startswith("worker ")
    assert line.endswith(f" died ({CAUSE[backend]}): restarted, 1 of at most 3 times")
    assert line in outcome.err
    assert status(tmp_path / "run")["restarts"] == 1
    command.assert_nobody_left()


@pytest.mark.row(2)
@pytest.mark.parametrize(("backend", "deaths"), [("local", 4), pytest.param("ray", 2, marks=pytest.mark.ray)])
def test_a_worker_that_is_killed_too_often_ends_the_run(tmp_path, backend, deaths):
    trouble = Trouble(tmp_path, times=1000)
    command = train(tmp_path, trouble, backend, f"max_restarts={deaths - 1}", "agent.groups=1", "agent.total_timesteps=8")
    for _ in range(deaths):
        os.kill(trouble.waiting(), signal.SIGKILL)
    outcome = command.outcome()
    assert outcome.code == 1
    assert outcome.error == f"error: worker 0 died {deaths} times (last: {CAUSE[backend]})"
    assert "too little memory" in outcome.hint
    assert status(tmp_path / "run")["state"] == "failed"
    assert status(tmp_path / "run")["restarts"] == deaths - 1
    command.assert_nobody_left()


@pytest.mark.row(3)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_worker_that_hangs_is_killed_and_replaced(tmp_path, undisturbed, backend):
    command = train(tmp_path, Trouble(tmp_path, "hangs"), backend, "step_timeout_s=10")
    outcome = command.outcome()
    assert outcome.code == 0, outcome.err
    assert told(tmp_path / "run") == undisturbed
    assert any(" died (hung for more than 10 s): restarted" in w for w in warnings(tmp_path / "run"))
    assert status(tmp_path / "run")["restarts"] >= 1
    command.assert_nobody_left()
