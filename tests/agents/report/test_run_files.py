"""Files that are missing, damaged or do not fit are named: the file, the key, what it is."""

from __future__ import annotations

import json
import re

import pytest

from automix.agents.report.run_files import read_run
from automix.core.errors import DataError
from tests.agents.report.made_run import edit


def test_what_is_missing_is_named_with_what_to_do(run):
    with pytest.raises(DataError, match="nowhere is not a directory"):
        read_run(run / "nowhere")
    for name in ("trials.jsonl", "env.json", "command.txt", "config.yaml", "result.json"):
        (run / name).unlink()
        with pytest.raises(DataError, match=re.escape(f"has no {name}")) as caught:
            read_run(run)
        assert caught.value.hint
    assert "run `python run.py compare` first" in caught.value.hint


def test_a_damaged_file_is_named(run):
    for name in ("result.json", "trials.jsonl", "metrics.jsonl", "env.json"):
        whole = (run / name).read_bytes()
        for damage in (b'{"update": 1', b"[]", b"7", b"\0", b"\xff", b"[" * 10**5):
            (run / name).write_bytes(damage)
            with pytest.raises(DataError, match=re.escape(name)) as caught:
                read_run(run)
            assert "\n" not in caught.value.message
            assert "--overwrite" in caught.value.hint
        (run / name).write_bytes(whole)
    read_run(run)


def test_a_damaged_line_is_named_by_number(run):
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], lines[2][:40]]))
    with pytest.raises(DataError, match=r"metrics\.jsonl:3 is not JSON: '\{\"update\""):
        read_run(run)


DAMAGE = [
    (lambda r: r["contestants"][2].pop("iqm"), r"contestants\[2\]\.iqm is missing"),
    (lambda r: r["contestants"][0].update(ci95=[1]), r"\.ci95 is \[1\], wanted \[low, high\]"),
    (lambda r: r["contestants"][0].update(ci95=[1, 0]), r"ci95 is \[1, 0\], wanted \[low, high"),
    (lambda r: r["contestants"][0].update(iqm="much"), "is 'much', wanted a valid number"),
    (lambda r: r["contestants"][0].update(iqm="0.5"), "is '0.5', wanted a valid number"),
    (lambda r: r["contestants"][0].update(iqm=True), "is True, wanted a valid number"),
    (lambda r: r.update(wall_s=float("nan")), "wall_s is nan, wanted a finite number"),
    (lambda r: r.update(tasks=[]), r"tasks is \[\], wanted a list with one entry or more"),
    (lambda r: r["contestants"][0]["by_task"].popitem(), "by_task lacks"),
    (lambda r: r["seeds"].pop(), "wanted one for each of the 5 seeds"),
    (lambda r: r["tasks"].append("7 images"), "7 images"),
    (lambda r: r.update(best_fixed="fixed:magic@0.5"), "best_fixed .* is no contestant"),
    (lambda r: r["agent_minus"].update(ghost=r["agent_minus"]["none"]), "ghost"),
]


def test_a_result_that_does_not_fit_is_explained(run):
    whole = (run / "result.json").read_text()
    for change, says in DAMAGE:
        result = json.loads(whole)
        change(result)
        (run / "result.json").write_text(json.dumps(result))  # NaN and all
        with pytest.raises(DataError, match=r"trials\.jsonl: |result\.json: ") as caught:
            read_run(run)
        assert re.search(says, caught.value.message), says


def test_a_trial_of_another_length_is_explained(run):
    path = run / "trials.jsonl"
    first, *rest = path.read_text().splitlines()
    trial = json.loads(first)
    trial["mixes"].pop()
    path.write_text("\n".join([json.dumps(trial), *rest]))
    message = r"trials\.jsonl:1: .* m partner shares, not 7 mixes, .* at 8, 9 and 8"
    with pytest.raises(DataError, match=message):
        read_run(run)


def test_what_the_learner_could_not_say_is_not_a_number(run):
    first, *others = (update.agent["explained_variance"] for update in read_run(run).updates)
    assert first != first
    assert all(value == value for value in others)


def test_runs_of_earlier_versions_lack_what_is_optional(run):
    edit(run, lambda result: [result.pop(key) for key in ("draws", "oracle", "found")])
    (run / "metrics.jsonl").unlink()
    found = read_run(run)
    assert (found.draws, found.oracle, found.found, found.updates) == (0, None, {}, [])
