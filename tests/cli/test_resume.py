"""``resume`` on the command line."""

from __future__ import annotations

import json

import automix.agents.jobs.run
from tests.agents import tiny_run


def test_it_prints_what_the_run_would_have_printed(cli, tmp_path, monkeypatch):
    whole = cli("train", *tiny_run.WORDS, "--run-dir", tmp_path / "whole")

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(automix.agents.jobs.run, "compare", stop)
        early = cli("train", *tiny_run.WORDS, "--run-dir", tmp_path / "run")
    assert early.code == 130
    told = [line for line in early.err.splitlines() if line]
    assert told[-1] == "interrupted"
    assert told[-2].endswith(f"next: python run.py resume {tmp_path / 'run'}")
    outcome = cli("resume", tmp_path / "run")
    assert outcome.code == 0
    assert outcome.out == whole.out
    assert "report/index.html" in outcome.err.splitlines()[-1]


def test_a_finished_run_is_printed_again(cli, run):
    outcome = cli("resume", run, "--json")
    assert outcome.code == 0
    assert json.loads(outcome.out) == json.loads((run / "result.json").read_text(encoding="utf-8"))


def test_nowhere_and_an_empty_folder_are_no_run(cli, tmp_path):
    for path in ("nowhere", tmp_path):
        cli("resume", path).assert_refused(3, "is no run directory: it has no status.json")
