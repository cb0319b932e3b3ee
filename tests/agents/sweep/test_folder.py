"""What survives a kill: lines that are whole, one driver at a time, one attempt at a time."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from automix.agents.sweep.folder import SweepDirectory, only_attempt, open_sweep, read_sweep
from automix.agents.sweep.ledger import Ledger, json_lines, last_line
from automix.agents.sweep.planning.plan import plan_of
from automix.core.errors import AutomixError, ConfigError, DataError
from tests.agents.sweep.stand_ins import unlike

HOLDS = """
import fcntl, os, sys
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
print(f'{{"pid": {os.getpid()}}}', file=file, flush=True)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def plan():
    return plan_of(["seed=0,1"])


def test_a_torn_line_is_left_out_and_the_next_stands_alone(tmp_path):
    for number, torn in enumerate(('{"event": "fini', "\x00\x00", "[1, 2]", "null", '{"a": 1}')):
        ledger = Ledger(tmp_path / f"{number}.jsonl")
        ledger.write("planned", "a")
        with ledger.path.open("a") as file:
            file.write(torn)
        assert len(ledger.records()) == 1, torn
        ledger.mend()
        ledger.write("failed", "a", error="x")
        assert [record["event"] for record in ledger.records()] == ["planned", "failed"], torn
        before = ledger.path.read_bytes()
        ledger.mend()
        assert ledger.path.read_bytes() == before


def test_a_line_on_its_way_is_not_read_yet(tmp_path):
    path = tmp_path / "lines"
    assert (json_lines(path), last_line(path)) == ([], {})
    path.write_text('{"a": 1}\n{"a": 2')
    assert json_lines(path) == [{"a": 1}]
    assert last_line(path) == {"a": 1}
    path.write_text('{"a": 1}\n' * 9000 + '{"a": 2}\n')
    assert last_line(path) == {"a": 2}


def test_a_sweeps_directory_plans_every_trial_once(tmp_path, plan):
    for _ in range(2):
        with open_sweep(tmp_path / "s", plan, overwrite=False) as directory:
            pass
    records = directory.ledger.records()
    assert [record["trial"] for record in records] == [trial.hash for trial in plan.trials]
    described = read_sweep(tmp_path / "s")
    assert described["words"] == ["seed=0,1"]
    assert described["trials"] == [trial.hash for trial in plan.trials]


def test_two_drivers_do_not_share_a_sweep(tmp_path, plan):
    with (
        open_sweep(tmp_path / "s", plan, overwrite=False) as directory,
        pytest.raises(ConfigError, match="another process"),
        open_sweep(tmp_path / "s", plan, overwrite=True),
    ):
        pass
    assert directory.ledger.path.is_file()  # the second did not remove what the first works on


def test_overwrite_begins_anew(tmp_path, plan):
    with open_sweep(tmp_path / "s", plan, overwrite=False) as directory:
        directory.trial("old").mkdir(parents=True)
        directory.ledger.write("finished", "old")
    with open_sweep(tmp_path / "s", plan, overwrite=True) as directory:
        assert not directory.trial("old").exists()
        assert set(directory.ledger.last()) == {trial.hash for trial in plan.trials}


def test_a_folder_that_is_no_sweep_is_left_as_it_is(tmp_path, plan):
    (tmp_path / "mine.txt").write_text("precious")
    for overwrite in (False, True):
        with (
            pytest.raises(ConfigError, match="no sweep"),
            open_sweep(tmp_path, plan, overwrite=overwrite),
        ):
            pass
        assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_damaged_description_is_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_sweep(tmp_path)

    def read(text):
        (tmp_path / "sweep.yaml").write_text(text)
        read_sweep(tmp_path)

    cases = [
        ("just words", "no description"),
        ("words: seed=1\ntrials: []", "words is no list"),
        ("words: [1]\ntrials: []", "words is no list"),
        ("words: []\ntrials: []", "home is no folder"),
        ("words: []\ntrials: []\nhome: x\njob: rm", "job is 'rm'"),
        ("words: !!python/object/apply:os.system [ls]", "plain YAML"),
    ]
    assert not unlike(cases, read, DataError)


def test_a_trial_without_a_whole_result_has_not_finished(tmp_path):
    finished = '{"state": "finished"}'
    for number, files in enumerate(
        (
            {},
            {"status.json": '{"state": "running"}', "result.json": "{}"},
            {"status.json": finished},
            {"status.json": finished, "result.json": '{"contestants": []}'},
            {"status.json": finished, "result.json": "[" * 100_000},
            {"status.json": "[]", "result.json": "{}"},
        )
    ):
        directory = SweepDirectory(tmp_path / str(number))
        directory.trial("a").mkdir(parents=True)
        for name, text in files.items():
            (directory.trial("a") / name).write_text(text)
        assert directory.figures("a") is None, files


def test_a_second_attempt_waits_until_the_first_process_is_gone(tmp_path):
    """As when a machine is lost to Ray and its process still writes for a moment."""
    path = tmp_path / "a.jsonl"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(path)], **pipes) as other:
        assert other.stdout.readline() == b"held\n"
        with (
            pytest.raises(AutomixError, match="another process has held"),
            only_attempt(path, {"pid": 0}, 0.2),
        ):
            pass
        other.kill()
        with only_attempt(path, {"pid": 1}, 30.0):
            pass
    assert [json.loads(line)["pid"] for line in path.read_text().splitlines()] == [other.pid, 1]
