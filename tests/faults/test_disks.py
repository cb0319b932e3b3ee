"""Rows 11, 12: no room, and no right to write."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from automix.agents.jobs.run import train_or_resume
from tests.agents import tiny_run
from tests.faults.commands import Command, run
from tests.faults.killing import results_of
from tests.faults.runs import WORDS, status
from tests.faults.trouble import Trouble, disk_is_full_from

pytestmark = pytest.mark.fault


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A disk of its own, of few megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=66m", "tmpfs", str(place)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("only root may mount")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def read_only(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)


def filled(disk: Path) -> Path:
    """Fill a disk; return the file that does it."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (2**20, 2**10, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass
    return ballast


def assert_all_files_are_whole(path: Path) -> None:
    assert [str(file) for file in path.rglob("*") if file.name.startswith(".")] == []
    empty = [file.name for file in path.rglob("*") if file.is_file() and not file.stat().st_size]
    assert empty == ["lock"]  # which has nothing to say


@pytest.mark.row(11)
def test_a_disk_that_fills_up_costs_nothing_that_was_there(tmp_path, disk, undisturbed):
    trouble = Trouble(tmp_path, at=5, anywhere=True)
    path = disk / "run"
    command = Command(tmp_path, "train", *WORDS, "--run-dir", path, fault=trouble)
    trouble.waiting()
    latest = (path / "checkpoints" / "LATEST").read_text()
    ballast = filled(disk)
    trouble.let_go()
    outcome = command.outcome()
    assert outcome.code == 4
    assert (
        f"no space left on the disk of {path / 'checkpoints'} for a checkpoint of" in outcome.error
    )
    assert "bytes" in outcome.error
    assert "Traceback" not in outcome.err
    assert (path / "checkpoints" / "LATEST").read_text() == latest
    assert (path / "checkpoints" / latest.strip() / "manifest.json").is_file()
    assert_all_files_are_whole(path)
    ballast.unlink()
    outcome = run(tmp_path, "resume", path)
    assert outcome.code == 0, outcome.err
    assert "damaged" not in outcome.err
    assert results_of(path) == undisturbed


@pytest.mark.row(11)
@pytest.mark.parametrize("write", [1, 6, 12, 24, 36, 48, 60, 72, 84])
def test_wherever_it_is_full_the_run_ends_with_code_4_and_goes_on(tmp_path, undisturbed, write):
    path = tmp_path / "run"
    fault = partial(disk_is_full_from, write, path)
    outcome = run(tmp_path, "train", *WORDS, "--run-dir", "run", fault=fault)
    outcome.assert_refused(4, "no space left on the disk of")
    assert "Traceback" not in outcome.err
    assert not list(path.rglob(".*"))
    train_or_resume(tiny_run.settings(*WORDS), path)
    assert results_of(path) == undisturbed


@pytest.mark.row(12)
def test_a_place_that_cannot_be_written_to_is_told_before_anything_is_trained(tmp_path):
    (tmp_path / "file").touch()
    trouble = Trouble(tmp_path, "exception", at=0, anywhere=True)
    words = ("--run-dir", "file/run")
    outcome = run(tmp_path, "train", *WORDS, *words, fault=trouble)
    outcome.assert_refused(4, "file/run cannot be made: Not a directory")
    assert not (tmp_path / "steps").exists()


@pytest.mark.row(12)
def test_so_is_a_disk_that_may_only_be_read(tmp_path, disk):
    trouble = Trouble(tmp_path, "exception", at=3, anywhere=True)
    path = disk / "run"
    first = run(tmp_path, "train", *WORDS, "--run-dir", path, fault=trouble)
    assert first.code == 1
    assert status(path)["state"] == "failed"
    read_only(disk)
    os.truncate(tmp_path / "steps", 0)
    for words in (["resume", path], ["train", *WORDS, "--run-dir", disk / "other"]):
        outcome = run(tmp_path, *words, fault=trouble)
        outcome.assert_refused(4, "Read-only file system", hint="")
    assert (tmp_path / "steps").stat().st_size == 0
