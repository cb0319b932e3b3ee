"""What trials are worth: seeds are repeats, and validation decides."""

from __future__ import annotations

import csv

import pytest

from automix.agents.config.settings import RunSettings
from automix.agents.sweep.folder import figures_of
from automix.agents.sweep.planning.plan import SweepTrial, plan_of
from automix.agents.sweep.results import Row, lead_of, settings_of, write_summary
from tests.agents.sweep.stand_ins import result

METRIC = "val_accuracy"


def row(values: dict[str, str], val: float | None, test: float = 0.5, error: str = "") -> Row:
    figures = None if val is None else figures_of(result(val, test))
    name = "-".join(values.values())
    state = "failed" if val is None else "finished"
    failures = [{"error": error, "log": ""}] if error else []
    trial = SweepTrial(name, values, (), RunSettings())
    return Row(trial, state, figures, wall_s=60.0, failures=failures)


def test_the_figures_are_those_of_the_agent():
    assert figures_of(result(0.7, 0.6)) == {
        "val_accuracy": 0.7,
        "test_accuracy": 0.6,
        "test_ece": 0.1,
        "epochs_spent": 40,
    }


def test_the_best_setting_is_the_best_mean_not_the_luckiest_seed():
    rows = [
        *(row({"a": "lucky", "seed": str(s)}, v) for s, v in enumerate((0.99, 0.1, 0.1))),
        *(row({"a": "steady", "seed": str(s)}, v) for s, v in enumerate((0.6, 0.61, 0.62))),
    ]
    best, other = settings_of(rows, METRIC)
    assert best.values == {"a": "steady"}
    assert best.value == pytest.approx(0.61)
    assert best.n == 3
    assert best.interval[0] < 0.61 < best.interval[1]
    assert best.interval[0] >= 0.6
    assert best.interval[1] <= 0.62
    assert other.interval[1] - other.interval[0] > 0.3


def test_test_figures_decide_nothing():
    rows = [row({"a": "x"}, 0.7, test=0.1), row({"a": "y"}, 0.6, test=0.9)]
    best, _ = settings_of(rows, METRIC)
    assert (best.values["a"], best.test_accuracy) == ("x", 0.1)


def test_failed_trials_count_for_nobody():
    rows = [row({"a": "x", "seed": "0"}, 0.7), row({"a": "x", "seed": "1"}, None, error="no")]
    (only,) = settings_of(rows, METRIC)
    assert (only.n, only.interval) == (1, None)


def test_the_lead_is_paired_by_seed():
    """Seeds differ a lot, the settings by the same on each: unpaired nobody could tell."""
    noise = [0.0, 0.2, 0.4, 0.1, 0.3, 0.25]
    rows = [row({"a": "x", "seed": str(s)}, 0.51 + v) for s, v in enumerate(noise)]
    rows += [row({"a": "y", "seed": str(s)}, 0.50 + v) for s, v in enumerate(noise)]
    lead = lead_of(settings_of(rows, METRIC))
    assert lead["over"] == "a=y"
    assert lead["mean"] == pytest.approx(0.01)
    assert lead["ci95"] == pytest.approx([0.01, 0.01])
    assert (lead["n"], lead["enough"]) == (6, True)
    assert lead_of(settings_of(rows[:6], METRIC)) is None
    assert lead_of(settings_of([rows[0], rows[6]], METRIC)) is None
    assert not lead_of(settings_of([*rows[:5], *rows[6:11]], METRIC))["enough"]


def test_the_summary_is_a_table_that_a_spreadsheet_does_not_run(tmp_path):
    hostile, key = '=HYPERLINK("http://x")', "agent.gamma"
    rows = [
        row({key: hostile, "seed": "0"}, 0.7),
        row({key: "-1e-3", "seed": "1"}, None, error="@it, broke"),
    ]
    path = tmp_path / "summary.csv"
    write_summary(path, rows, plan_of([f"{key}=0.9,1.0", "seed=0,1"]))
    first, second = csv.DictReader(path.read_text().splitlines())
    assert first[key] == f"'{hostile}"
    assert (first["state"], float(first["val_accuracy"])) == ("finished", 0.7)
    assert (second[key], second["state"], second["val_accuracy"]) == ("-1e-3", "failed", "")
    assert second["error"] == "'@it, broke"
    assert first["wall_s"] == "60.0"
