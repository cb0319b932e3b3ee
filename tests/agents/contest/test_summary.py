"""Regret to the best fixed choice of each task, on tables whose answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from automix.agents.config.settings import CompareSettings, RunSettings
from automix.agents.contest.summary import cross_fitted, hindsight, oracle_of
from automix.data.tasks import FamilySettings

SETTINGS = RunSettings(
    task=FamilySettings(train_sizes=(10, 20)), compare=CompareSettings(draws=10, resamples=500)
)


def told(agent: np.ndarray, choices: np.ndarray, best: int = 0) -> dict[str, Any]:
    """Return the oracle of an agent (tasks, trainings) and choices (choices, tasks, trainings)."""
    tables = {"agent": agent} | {f"c{i}": scores for i, scores in enumerate(choices)}
    return oracle_of(tables, [f"c{i}" for i in range(len(choices))], f"c{best}", SETTINGS)


def test_regrets_are_those_worked_out_by_hand():
    # Task 0 wants choice 0, task 1 choice 1; the trainings agree.
    choices = np.array([[[0.8, 0.8], [0.3, 0.3]], [[0.6, 0.6], [0.7, 0.7]]])
    agent = np.array([[0.75, 0.85], [0.6, 0.6]])
    oracle = told(agent, choices)
    for form in (oracle["hindsight"], oracle["cross_fitted"]):
        assert form["score"] == pytest.approx(0.75)
        assert form["regret"]["agent"]["mean"] == pytest.approx((0.0 + 0.1) / 2)
        assert form["regret"]["c0"]["mean"] == pytest.approx((0.0 + 0.4) / 2)
        assert form["regret"]["c1"]["mean"] == pytest.approx((0.2 + 0.0) / 2)
    assert oracle["choices"] == 2


def test_luck_is_picked_with_hindsight_and_not_by_others():
    """Twenty choices that are all alike: nothing is to regret, whatever was drawn."""
    rng = np.random.default_rng(0)
    oracle = told(rng.normal(size=(300, 3)), rng.normal(size=(20, 300, 3)))
    lucky, fair = (oracle[form]["regret"]["agent"] for form in ("hindsight", "cross_fitted"))
    # The largest of 20 means of 3 is 1.87 / sqrt(3) above their mean.
    assert lucky["mean"] == pytest.approx(1.08, abs=0.15)
    assert lucky["ci95"][0] > 0.8
    assert fair["ci95"][0] < 0 < fair["ci95"][1]
    assert abs(fair["mean"]) < 0.15


def test_a_choice_that_is_truly_better_is_found_without_luck():
    rng = np.random.default_rng(1)
    tasks = 200
    choices = rng.normal(scale=0.01, size=(6, tasks, 3))
    choices[rng.integers(6, size=tasks), np.arange(tasks)] += 0.2
    fair = told(np.zeros((tasks, 3)), choices)["cross_fitted"]
    assert fair["regret"]["agent"]["mean"] == pytest.approx(0.2, abs=0.005)
    # A choice that is right once in six regrets the rest.
    assert fair["regret"]["c0"]["mean"] == pytest.approx(0.2 * 5 / 6, abs=0.03)


def test_the_training_that_is_scored_has_no_say_in_the_pick():
    choices = np.random.default_rng(2).random((4, 5, 3))
    slow = np.empty((5, 3))
    for task in range(5):
        for left_out in range(3):
            rest = [t for t in range(3) if t != left_out]
            means = [np.mean([choices[c, task, t] for t in rest]) for c in range(4)]
            slow[task, left_out] = choices[int(np.argmax(means)), task, left_out]
    assert_allclose(cross_fitted(choices), slow)
    best = [int(np.argmax([choices[c, task].mean() for c in range(4)])) for task in range(5)]
    assert_allclose(hindsight(choices), [choices[best[task], task] for task in range(5)])
    # Changing one score changes the picks of the other trainings only.
    changed = choices.copy()
    changed[2, 0, 1] = 9.0
    assert cross_fitted(changed)[0, 0] == choices[2, 0, 0]
    assert cross_fitted(changed)[0, 1] in (slow[0, 1], 9.0)
    assert (cross_fitted(changed)[0, 1] == 9.0) == (slow[0, 1] == choices[2, 0, 1])


def test_the_ratio_is_of_mean_regrets():
    rng = np.random.default_rng(3)
    regret = rng.random((40, 2)) * 0.1 + 0.05
    level = np.full((40, 2), 0.9)
    choices = np.stack([level - regret, level])
    form = told(level - regret / 4, choices)["cross_fitted"]
    assert_allclose([form["ratio"]["mean"], *form["ratio"]["ci95"]], 0.25)
    better = told(level + regret, choices)["cross_fitted"]["ratio"]
    assert better["mean"] == pytest.approx(-1.0)


def test_no_ratio_is_told_of_a_regret_that_may_be_zero():
    rng = np.random.default_rng(4)
    noise = told(rng.normal(size=(30, 2)), rng.normal(size=(5, 30, 2)))
    assert noise["cross_fitted"]["ratio"] is None
    same = np.full((2, 30, 2), 0.5)
    assert told(same[0], same)["hindsight"]["ratio"] is None


def test_one_training_leaves_hindsight_only():
    rng = np.random.default_rng(5)
    oracle = told(rng.random((8, 1)), rng.random((3, 8, 1)))
    assert oracle["cross_fitted"] is None
    assert oracle["hindsight"]["regret"]["agent"]["mean"] > 0
