"""Rows 4 to 6: the command itself is killed, in the middle of a checkpoint too, or told to stop."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from tests.faults.commands import ROOT, Command, run
from tests.faults.killing import results_of
from tests.faults.runs import WORDS, status
from tests.faults.trouble import PATIENCE_S, Trouble, dies_between_write_and_rename

pytestmark = pytest.mark.fault

STEPS = 8
"""Of two blocks, two updates, two epochs."""


def train(folder: Path, trouble: Trouble, *words: str) -> Command:
    return Command(folder, "train", *WORDS, *words, "--run-dir", "run", fault=trouble)


def assert_resumed(folder: Path, undisturbed: dict[str, object]) -> None:
    outcome = run(folder, "resume", "run")
    assert outcome.code == 0, outcome.err
    assert results_of(folder / "run") == undisturbed
    assert status(folder / "run")["state"] == "finished"


@pytest.mark.row(4)
@pytest.mark.parametrize(
    ("step", "words"),
    [
        *((step, ("workers=2",)) for step in random.Random(4).sample(range(STEPS), 2)),
        pytest.param(5, ("workers=2", "backend=ray"), marks=pytest.mark.ray),
    ],
)
def test_a_killed_run_goes_on_and_leaves_nobody_behind(tmp_path, undisturbed, step, words):
    trouble = Trouble(tmp_path, at=step, anywhere=True)
    command = train(tmp_path, trouble, *words)
    trouble.waiting()
    command.killed()
    trouble.let_go()  # a worker ends its step before it finds itself alone
    command.assert_nobody_left(90 if "backend=ray" in words else 30)  # Ray's agents look for it
    assert status(tmp_path / "run")["state"] == "running"
    assert_resumed(tmp_path, undisturbed)


@pytest.mark.row(4)
def test_so_does_a_process_that_python_itself_has_started(tmp_path, undisturbed):
    program = [sys.executable, str(ROOT / "run.py")]
    words = (*WORDS, "workers=2", "--run-dir", "run")
    with (tmp_path / "err").open("w") as err:
        first = subprocess.Popen(
            [*program, "train", *words], cwd=tmp_path, stderr=err, start_new_session=True
        )
    deadline = time.monotonic() + PATIENCE_S
    while not (tmp_path / "run" / "checkpoints" / "LATEST").exists():
        assert first.poll() is None, (tmp_path / "err").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    first.kill()
    first.wait()
    again = subprocess.run(
        [*program, "resume", "run"], cwd=tmp_path, capture_output=True, timeout=PATIENCE_S
    )
    assert again.returncode == 0, again.stderr
    assert results_of(tmp_path / "run") == undisturbed
    with pytest.raises(ProcessLookupError):
        os.killpg(first.pid, 0)


@pytest.mark.row(5)
@pytest.mark.parametrize("number", [0, 2])
def test_a_checkpoint_that_was_being_written_is_not_used(tmp_path, undisturbed, number):
    """``test_killed_runs.py`` kills at every write; this is the one before the folder's name."""
    fault = partial(dies_between_write_and_rename, number)
    outcome = run(tmp_path, "train", *WORDS, "--run-dir", "run", fault=fault)
    assert outcome.code == -signal.SIGKILL
    checkpoints = tmp_path / "run" / "checkpoints"
    assert len(list(checkpoints.glob(".writing.*"))) == 1
    assert len(list(checkpoints.glob("step_*"))) == number
    assert_resumed(tmp_path, undisturbed)
    assert list(checkpoints.glob(".writing.*")) == []


@pytest.mark.row(6)
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_signal_ends_the_epoch_with_a_checkpoint(tmp_path, undisturbed, sent, workers):
    trouble = Trouble(tmp_path, at=3, anywhere=True)
    words = (f"workers={workers}", "checkpoint.share=0.000001")  # none is due after the first
    command = train(tmp_path, trouble, *words)
    trouble.waiting()
    before = names(tmp_path)
    command.send(sent)
    command.has_said("stopping after this epoch, with a checkpoint; once more stops at once")
    trouble.let_go()
    outcome = command.outcome()
    assert outcome.code == 128 + sent
    assert "Traceback" not in outcome.err
    said = [line for line in outcome.err.splitlines() if line and line != "interrupted"]
    assert said[-1].endswith(f"next: python run.py resume {tmp_path / 'run'}")
    assert status(tmp_path / "run")["state"] == "interrupted"
    assert len(names(tmp_path) - before) == 1
    command.assert_nobody_left()
    assert_resumed(tmp_path, undisturbed)


@pytest.mark.row(6)
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_ends_it_at_once(tmp_path, undisturbed, sent):
    trouble = Trouble(tmp_path, at=3, anywhere=True)
    command = train(tmp_path, trouble, "workers=2")
    trouble.waiting()
    before = names(tmp_path)
    command.send(sent)
    command.has_said("once more stops at once")
    command.send(sent)
    assert command.outcome().code == 128 + sent  # nobody let go of the epoch
    assert status(tmp_path / "run")["state"] == "interrupted"
    assert names(tmp_path) == before
    command.assert_nobody_left()
    assert_resumed(tmp_path, undisturbed)


def names(folder: Path) -> set[str]:
    return {path.name for path in (folder / "run" / "checkpoints").glob("step_*")}
