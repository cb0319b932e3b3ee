"""Scores of contestants, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from automix.stats import (
    Interval,
    iqm,
    mean,
    probability_of_improvement,
    smallest_p,
    stratified_bootstrap,
)


def test_the_iqm_is_the_mean_of_the_middle_half():
    # Sorted: 0 1 2 3 4 5 6 100; a quarter off each end leaves 2 3 4 5.
    scores = np.array([[100.0, 3.0, 0.0, 5.0], [2.0, 1.0, 6.0, 4.0]])
    assert iqm(scores) == 3.5
    assert mean(scores) == 15.125
    # Of twenty, five go at each end: the squares of 5 to 14 are left.
    squares = np.arange(20.0).reshape(4, 5) ** 2
    assert iqm(squares) == np.mean([i**2 for i in range(5, 15)])


def test_outliers_do_not_move_the_iqm():
    calm, wild = np.arange(8.0)[None], np.arange(8.0)[None]
    wild[0, 0], wild[0, 7] = -1e9, 1e9
    assert iqm(calm) == iqm(wild) == 3.5


def test_statistics_keep_the_axes_in_front():
    scores = np.random.default_rng(0).random((5, 3, 4))
    assert iqm(scores).shape == mean(scores).shape == (5,)
    assert_allclose(iqm(scores)[2], iqm(scores[2]))
    assert_allclose(mean(scores), scores.reshape(5, -1).mean(1))


@pytest.mark.parametrize("statistic", [iqm, mean])
def test_scores_without_spread_have_an_interval_without_width(statistic):
    interval = stratified_bootstrap(np.full((3, 4), 0.7), statistic, resamples=200, seed=0)
    assert_allclose([interval.value, interval.low, interval.high], 0.7)


def test_kinds_of_task_are_strata_not_samples():
    """Each kind's seeds agree, so nothing is left to chance, however far apart the kinds are."""
    scores = np.array([[0.1] * 5, [0.9] * 5])
    interval = stratified_bootstrap(scores, mean, resamples=200, seed=0)
    assert_allclose(interval.bounds, [0.5, 0.5])


def test_the_interval_is_that_of_the_normal_law_where_scores_are_normal():
    n, sigma = 400, 2.0
    scores = np.random.default_rng(1).normal(5.0, sigma, (1, n))
    interval = stratified_bootstrap(scores, mean, resamples=4000, seed=0)
    half = 1.96 * scores.std() / np.sqrt(n)
    assert interval.value == scores.mean()
    assert_allclose(interval.low, scores.mean() - half, atol=0.1 * half)
    assert_allclose(interval.high, scores.mean() + half, atol=0.1 * half)


def test_nineteen_of_twenty_intervals_hold_the_truth():
    rng = np.random.default_rng(2)
    truth, trials = 1.5, 300
    held = 0
    for trial in range(trials):
        scores = rng.normal([[0.0], [1.5], [3.0]], 1.0, (3, 20))
        interval = stratified_bootstrap(scores, mean, resamples=300, seed=trial)
        held += interval.low <= truth <= interval.high
    # Percentile intervals of few samples are a little narrow; five standard errors around 93 %.
    assert 0.86 <= held / trials <= 0.99


def test_a_seed_fixes_the_interval():
    scores = np.random.default_rng(3).random((2, 6))
    first, again, other = (
        stratified_bootstrap(scores, iqm, resamples=200, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert first.value == other.value


def test_an_interval_gives_its_bounds():
    assert Interval(0.5, 0.4, 0.7).bounds == [0.4, 0.7]


@pytest.mark.parametrize(
    ("ours", "theirs", "wanted"),
    [
        # Each of ours against each of theirs: 3 of 4 wins; 4 of 4; a tie counts half.
        ([[2, 4]], [[1, 3]], 0.75),
        ([[5, 6]], [[1, 3]], 1.0),
        ([[1, 3]], [[5, 6]], 0.0),
        ([[1, 1]], [[1, 1]], 0.5),
        ([[1, 2]], [[1, 3]], 0.375),
        # Four kinds of two seeds: the mean of 0.75, 1, 0 and 0.5.
        ([[2, 4], [5, 6], [1, 2], [7, 7]], [[1, 3], [1, 3], [3, 3], [7, 7]], 0.5625),
        # Runs of different kinds never meet: ours lose within each kind, win across.
        ([[10, 11], [1, 2]], [[12, 13], [3, 4]], 0.0),
    ],
)
def test_the_probability_of_improvement_counts_pairs_of_the_same_kind(ours, theirs, wanted):
    ours, theirs = np.array(ours, dtype=float), np.array(theirs, dtype=float)
    assert probability_of_improvement(ours, theirs) == pytest.approx(wanted)
    assert probability_of_improvement(theirs, ours) == pytest.approx(1 - wanted)


@pytest.mark.parametrize(("n", "p"), [(4, 0.125), (5, 0.0625), (6, 0.03125), (10, 0.001953125)])
def test_few_pairs_cannot_reach_a_small_p(n, p):
    assert smallest_p(n) == p
