"""Scores of contestants, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from automix.agents.contest.stats import (
    FEWEST_PAIRS,
    bootstrap,
    cluster_bootstrap,
    iqm,
    mean,
    probability_of_improvement,
    ratio,
    smallest_p,
    stratified_bootstrap,
)
from automix.core.seeding import generator
from tests.cases import each


def test_the_iqm_is_the_mean_of_the_middle_half():
    # Sorted: 0 1 2 3 4 5 6 100; a quarter off each end leaves 2 3 4 5.
    scores = np.array([[100.0, 3.0, 0.0, 5.0], [2.0, 1.0, 6.0, 4.0]])
    assert iqm(scores) == 3.5
    assert mean(scores) == 15.125
    # Of twenty, five go at each end: the squares of 5 to 14 are left.
    squares = np.arange(20.0).reshape(4, 5) ** 2
    assert iqm(squares) == np.mean([i**2 for i in range(5, 15)])


def test_statistics_keep_the_axes_in_front():
    scores = np.random.default_rng(0).random((5, 3, 4))
    assert iqm(scores).shape == mean(scores).shape == (5,)
    assert_allclose(iqm(scores)[2], iqm(scores[2]))
    assert_allclose(mean(scores), scores.reshape(5, -1).mean(1))


def test_kinds_of_task_are_strata_not_samples():
    """Each kind's seeds agree, so nothing is left to chance, however far apart the kinds are."""
    scores = np.array([[0.1] * 5, [0.9] * 5])
    for statistic in (mean, iqm):
        interval = stratified_bootstrap(scores, statistic, resamples=200, seed=0)
        assert_allclose([interval.value, *interval.bounds], 0.5)


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


@each("statistic", [iqm, mean])
def test_whole_tasks_are_drawn_again_as_a_slow_loop_does(statistic):
    scores = np.random.default_rng(4).random((7, 3))
    fast = cluster_bootstrap(scores, statistic, resamples=50, seed=9)
    drawn = generator(9, "bootstrap").integers(7, size=(50, 1, 7))
    values = []
    for resample in drawn[:, 0]:
        means = sorted(sum(scores[task]) / 3 for task in resample)
        # Of seven, a quarter is one whole value at each end.
        values.append(np.mean(means[1:-1] if statistic is iqm else means))
    means = sorted(scores.mean(1))
    assert fast.value == pytest.approx(np.mean(means[1:-1] if statistic is iqm else means))
    assert_allclose(fast.bounds, np.quantile(values, [0.025, 0.975]))
    again = bootstrap(scores, statistic, whole_tasks=True, resamples=50, seed=9)
    assert again == fast


def test_more_trainings_of_a_task_do_not_count_as_more_tasks():
    scores = np.random.default_rng(5).random((12, 1))
    once = cluster_bootstrap(scores, mean, resamples=200, seed=0)
    often = cluster_bootstrap(np.repeat(scores, 8, axis=1), mean, resamples=200, seed=0)
    assert_allclose(often.bounds, once.bounds)
    # Resampling trainings of fixed tasks would call the very same scores certain.
    fixed = bootstrap(np.repeat(scores, 8, axis=1), mean, whole_tasks=False, resamples=200, seed=0)
    assert_allclose(fixed.low, fixed.high)
    assert often.high - often.low > 0.05


def test_a_ratio_is_of_means_and_its_parts_are_drawn_together():
    ours = np.random.default_rng(6).random((40, 2)) + 0.5
    pairs = np.stack([ours, 4 * ours], axis=-1)
    interval = cluster_bootstrap(pairs, ratio, resamples=100, seed=0)
    assert_allclose([interval.value, *interval.bounds], 0.25)
    pairs = np.array([[[1.0, 3.0]], [[2.0, 1.0]]])
    assert cluster_bootstrap(pairs, ratio, resamples=100, seed=0).value == pytest.approx(3 / 4)


def test_the_probability_of_improvement_counts_pairs_of_the_same_kind():
    for first, second, wanted in (
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
    ):
        ours, theirs = np.array(first, dtype=float), np.array(second, dtype=float)
        assert probability_of_improvement(ours, theirs) == pytest.approx(wanted)
        assert probability_of_improvement(theirs, ours) == pytest.approx(1 - wanted)


def test_few_pairs_cannot_reach_a_small_p():
    for n, p in ((4, 0.125), (5, 0.0625), (6, 0.03125), (10, 0.001953125)):
        assert smallest_p(n) == p
    assert smallest_p(FEWEST_PAIRS) < 0.05 <= smallest_p(FEWEST_PAIRS - 1)
