"""Row 13: some trials of a sweep fail.

``tests/agents/sweep/runners/test_ray_grid.py`` has the same on Ray, with trials whose processes are
killed, a node that is, and the command itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agents.sweep.stand_ins import WORDS
from tests.faults.commands import run
from tests.faults.trouble import two_trials_fail

pytestmark = [pytest.mark.fault, pytest.mark.row(13)]


def events(sweep: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each event of the ledger, with the line that tells it."""
    for line in (sweep / "ledger.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        yield record["event"], record


def test_the_others_finish_and_resume_runs_only_those_that_failed(tmp_path):
    sweep = tmp_path / "s"
    words = ("sweep", *WORDS, "seed=0,1,2,12,13,14", "--run-dir", "s")
    outcome = run(tmp_path, *words, fault=two_trials_fail)
    assert outcome.code == 5, outcome.err
    assert outcome.error.startswith("error: 2 of 6 trials failed; seed=13: it broke (")
    assert f"python run.py resume {sweep}" in outcome.hint
    failed = {record["trial"]: record for event, record in events(sweep) if event == "failed"}
    assert len(failed) == 2
    for record in failed.values():
        assert record["error"] == "it broke"
        assert (sweep / record["log"]).is_file()
    assert [event for event, _ in events(sweep)].count("finished") == 4
    (tmp_path / "mended").touch()
    told = len(list(events(sweep)))
    outcome = run(tmp_path, "resume", "s", fault=two_trials_fail)
    assert outcome.code == 0, outcome.err
    later = list(events(sweep))[told:]
    assert {record["trial"] for event, record in later if event == "started"} == set(failed)
    assert [event for event, _ in later].count("finished") == 2
