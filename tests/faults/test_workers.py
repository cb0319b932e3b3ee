"""Rows 1 to 3, 9, 10: workers that are killed, hang or lack memory, here and in Ray."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.faults.commands import Command, run
from tests.faults.killing import results_of
from tests.faults.runs import WORDS, status, warnings
from tests.faults.trouble import Trouble, memory_runs_out_in_ray

pytestmark = pytest.mark.fault

BACKENDS = ["local", pytest.param("ray", marks=pytest.mark.ray)]
CAUSE = {"local": "SIGKILL", "ray": "killed or crashed"}
"""Ray does not say which signal it was."""


def train(folder: Path, trouble: Trouble, backend: str, *words: str) -> Command:
    own = (f"backend={backend}", "workers=2", *words, "--run-dir", "run")
    return Command(folder, "train", *WORDS, *own, fault=trouble)


@pytest.mark.row(1)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_killed_worker_is_replaced_and_nothing_changes(tmp_path, undisturbed, backend):
    trouble = Trouble(tmp_path)
    command = train(tmp_path, trouble, backend)
    os.kill(trouble.waiting(), signal.SIGKILL)
    outcome = command.outcome()
    assert outcome.code == 0, outcome.err
    assert results_of(tmp_path / "run") == undisturbed
    (line,) = warnings(tmp_path / "run")
    assert line.startswith("worker ")
    assert line.endswith(f" died ({CAUSE[backend]}): restarted, 1 of at most 3 times")
    assert line in outcome.err
    assert status(tmp_path / "run")["restarts"] == 1
    command.assert_nobody_left()


@pytest.mark.row(2)
@pytest.mark.parametrize(
    ("backend", "deaths"), [("local", 4), pytest.param("ray", 2, marks=pytest.mark.ray)]
)
def test_a_worker_that_is_killed_too_often_ends_the_run(tmp_path, backend, deaths):
    trouble = Trouble(tmp_path, times=1000)
    words = (f"max_restarts={deaths - 1}", "agent.groups=1", "agent.total_timesteps=8")
    command = train(tmp_path, trouble, backend, *words)
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
    assert results_of(tmp_path / "run") == undisturbed
    assert " died (hung for more than 10 s): restarted" in " ".join(warnings(tmp_path / "run"))
    assert status(tmp_path / "run")["restarts"] >= 1
    command.assert_nobody_left()


@pytest.mark.row(9)
def test_too_little_memory_on_the_device_ends_the_run_with_a_hint(tmp_path):
    command = train(tmp_path, Trouble(tmp_path, "no memory"), "local")
    outcome = command.outcome()
    assert outcome.code == 4
    told = "error: out of memory: CUDA out of memory. Tried to allocate 2.00 GiB."
    assert outcome.error == told
    assert "agent.stacked_groups" in outcome.hint
    assert status(tmp_path / "run")["state"] == "failed"
    assert status(tmp_path / "run")["restarts"] == 0  # it is no death: it would happen again
    command.assert_nobody_left()


@pytest.mark.row(10)
@pytest.mark.ray
def test_a_worker_that_ray_kills_for_its_memory_is_replaced(tmp_path, undisturbed):
    words = ("backend=ray", "workers=2", "--run-dir", "run")
    outcome = run(tmp_path, "train", *WORDS, *words, fault=memory_runs_out_in_ray)
    assert outcome.code == 0, outcome.err
    assert results_of(tmp_path / "run") == undisturbed
    (line,) = warnings(tmp_path / "run")
    assert "died (out of memory: 14.90GB / 15.60GB): restarted, 1 of" in line
    assert status(tmp_path / "run")["restarts"] == 1
