"""What trials are worth: seeds are repeats, validation decides, shares of variance are right."""

from __future__ import annotations

import csv
import itertools

import numpy as np
import pytest

from automix.agents.config.settings import RunSettings
from automix.agents.sweep.importance import importance_of
from automix.agents.sweep.plan import SweepTrial
from automix.agents.sweep.results import (
    Row,
    Setting,
    figures_of,
    lead_of,
    settings_of,
    write_summary,
)
from tests.agents.sweep.stand_ins import result

METRIC = "val_accuracy"


def row(values: dict[str, str], val: float | None, test: float = 0.5, error: str = "") -> Row:
    figures = None if val is None else figures_of(result(val, test))
    name = "-".join(values.values())
    state = "failed" if val is None else "finished"
    return Row(SweepTrial(name, values, (), RunSettings()), state, figures, 60.0, 0, error, "")


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
    hostile = '=HYPERLINK("http://x")'
    rows = [
        row({"a": hostile, "seed": "0"}, 0.7),
        row({"a": "-1e-3", "seed": "1"}, None, error="@it, broke"),
    ]
    path = tmp_path / "summary.csv"
    write_summary(path, rows, ["a", "seed"])
    first, second = csv.DictReader(path.read_text().splitlines())
    assert first["a"] == f"'{hostile}"
    assert (first["state"], float(first["val_accuracy"])) == ("finished", 0.7)
    assert (second["a"], second["state"], second["val_accuracy"]) == ("-1e-3", "failed", "")
    assert second["error"] == "'@it, broke"
    assert first["wall_s"] == "60.0"


# Importance --------------------------------------------------------------------------------------


def setting(values: dict[str, str], value: float) -> Setting:
    return Setting(values, value, None, 0.5, {"": value})


def grid(effect, *levels: int) -> list[Setting]:
    """Every combination of parameters a, b, ... with that many levels, valued by ``effect``."""
    names = "abc"[: len(levels)]
    return [
        setting({n: str(v) for n, v in zip(names, at, strict=True)}, float(effect(*at)))
        for at in itertools.product(*(range(count) for count in levels))
    ]


def shares(settings: list[Setting], **words) -> dict[str, float]:
    return {one.key: one.share for one in importance_of(settings, **words)}


def test_shares_of_a_grid_are_the_planted_variances():
    """a has variance 2/3, b one quarter of 3, and there is no interplay."""
    found = shares(grid(lambda a, b: a + np.sqrt(3) * b, 3, 2))
    assert found == pytest.approx({"a": (2 / 3) / (2 / 3 + 3 / 4), "b": (3 / 4) / (2 / 3 + 3 / 4)})
    assert list(found) == ["b", "a"]


def test_interplay_is_left_over():
    """Whether a equals b: neither explains anything by itself."""
    assert shares(grid(lambda a, b: float(a == b), 2, 2)) == pytest.approx({"a": 0.0, "b": 0.0})


def test_nothing_is_explained_where_nothing_differs():
    assert shares(grid(lambda a, b: 0.5, 2, 3)) == {"a": 0.0, "b": 0.0}


def test_a_parameter_of_one_value_is_none():
    assert shares([setting({"a": str(i), "b": "0"}, i) for i in range(3)]) == {"a": 1.0}
    assert importance_of([]) == []
    assert importance_of([setting({"a": "0"}, 0.5)]) == []


def test_what_chance_gives_is_what_noise_shows_on_average():
    rng = np.random.default_rng(0)
    seen = [importance_of(grid(lambda *at: rng.normal(), 4, 2, 2)) for _ in range(400)]
    by_key = {
        key: np.mean([one.share for found in seen for one in found if one.key == key])
        for key in "abc"
    }
    for one in seen[0]:
        assert by_key[one.key] == pytest.approx(one.by_chance, abs=0.02)


def test_a_forest_finds_the_planted_effect_where_the_grid_has_holes():
    """100 random points; a explains 80 % of the variance, c nothing."""
    rng = np.random.default_rng(1)
    points = rng.random((100, 3))
    settings = [
        setting({"a": f"{a}", "b": f"{b}", "c": "xyz"[int(3 * c)]}, 2 * a + b) for a, b, c in points
    ]
    found = shares(settings, seed=3)
    assert found == shares(settings, seed=3)
    assert found["a"] == pytest.approx(0.8, abs=0.1)
    assert found["b"] == pytest.approx(0.2, abs=0.08)
    assert found["c"] < 0.03
    assert all(one.by_chance is None for one in importance_of(settings))


def test_too_few_points_with_holes_tell_nothing():
    assert importance_of(grid(lambda a, b: a, 2, 2)[:3]) == []
