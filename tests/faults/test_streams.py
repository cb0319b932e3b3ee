"""Row 25: stdout and stderr that are closed or full; what was finished is finished."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from functools import partial

import pytest

from tests.faults.commands import ROOT, run
from tests.faults.killing import results_of
from tests.faults.runs import WORDS, status

pytestmark = [pytest.mark.fault, pytest.mark.row(25)]

NUMBERS = {"stdin": 0, "stdout": 1, "stderr": 2}


def closed(*names: str) -> None:
    """Close streams, as Python finds them where a shell has."""
    for name in names:
        os.close(NUMBERS[name])
        setattr(sys, name, None)


def full(name: str) -> None:
    """Let a stream take nothing."""
    os.dup2(os.open("/dev/full", os.O_WRONLY), NUMBERS[name])


def test_a_word_or_a_list_that_cannot_be_printed_costs_no_code_of_its_own(tmp_path):
    for words, fault, code in (
        (("list",), partial(closed, "stdout"), 0),
        (("list",), partial(closed, "stderr"), 0),
        (("config",), partial(closed, "stdin", "stdout", "stderr"), 0),
        (("list",), partial(full, "stdout"), 4),
        (("list", "--json"), partial(full, "stdout"), 4),
        (("train", "--help"), partial(full, "stdout"), 4),
        (("train", "task=x"), partial(full, "stderr"), 2),
        (("train", "task=x"), partial(closed, "stderr"), 2),
        (("trian",), partial(full, "stderr"), 2),
        (("train", "--nope"), partial(full, "stderr"), 2),
    ):
        outcome = run(tmp_path, *words, fault=fault)
        assert outcome.code == code, (words, fault, outcome.err)
        assert "Traceback" not in outcome.err, words
        if code == 4:
            told = "error: stdout cannot be written: No space left on device"
            assert outcome.error == told, words


@pytest.mark.parametrize(
    "fault",
    [partial(closed, "stdout", "stderr"), partial(full, "stdout"), partial(full, "stderr")],
    ids=["closed", "stdout full", "stderr full"],
)
def test_a_run_is_finished_whoever_hears_of_it(tmp_path, undisturbed, fault):
    outcome = run(tmp_path, "train", *WORDS, "--run-dir", "run", fault=fault)
    assert outcome.code == 0, outcome.err
    assert status(tmp_path / "run")["state"] == "finished"
    assert results_of(tmp_path / "run") == undisturbed
    if fault.args == ("stdout",):
        assert "stdout cannot be written: No space left on device" in outcome.err
        assert "run/result.json" in outcome.err


def test_so_it_is_in_a_process_that_a_shell_has_started(tmp_path):
    """Whose first files would get the numbers of the streams that are closed."""
    words = shlex.join([sys.executable, str(ROOT / "run.py"), "evaluate", "none", *WORDS])
    for streams in ("<&- >&- 2>&-", "> /dev/null 2> /dev/full"):
        assert subprocess.run(["bash", "-c", f"{words} {streams}"], cwd=tmp_path).returncode == 0
    assert list(tmp_path.iterdir()) == []
