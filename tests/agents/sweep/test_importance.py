"""How much each parameter explains: planted shares of the variance are found."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from automix.agents.sweep.importance import importance_of
from automix.agents.sweep.results import Setting


def setting(values: dict[str, str], value: float) -> Setting:
    return Setting(values, value, None, 0.5, {"": value})


def grid(effect, *levels: int) -> list[Setting]:
    """Every combination of parameters a, b, ... with that many levels, valued by ``effect``."""
    names = "abc"[: len(levels)]
    return [
        setting({n: str(v) for n, v in zip(names, at, strict=True)}, float(effect(*at)))
        for at in itertools.product(*(range(count) for count in levels))
    ]


def shares(settings: list[Setting]) -> dict[str, float]:
    return {one.key: one.share for one in importance_of(settings)}


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


def test_too_few_points_with_holes_tell_nothing():
    assert importance_of(grid(lambda a, b: a, 2, 2)[:3]) == []


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
    forest = importance_of(settings, seed=3)
    assert forest == importance_of(settings, seed=3)
    assert all(one.by_chance is None for one in forest)
    found = {one.key: one.share for one in forest}
    assert found["a"] == pytest.approx(0.8, abs=0.1)
    assert found["b"] == pytest.approx(0.2, abs=0.08)
    assert found["c"] < 0.03
