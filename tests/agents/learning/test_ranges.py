"""What an agent has seen, against NumPy on all of it at once."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces
from numpy.testing import assert_allclose, assert_array_equal

from automix.agents.learning.ranges import BINS, ObservedRanges

SPACE = spaces.Box(np.float32([0, -1, 0, 0]), np.float32([1, 1, 3, 3]))


def seen(count: int = 4000) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (SPACE.low + (SPACE.high - SPACE.low) * rng.beta(2, 5, (count, 4))).astype(np.float32)


def test_ends_are_exact_and_quantiles_right_to_a_bin():
    rows, ranges = seen(), ObservedRanges(SPACE)
    for part in np.split(rows, 10):
        ranges.add(part)
    found = ranges.by_name(["a", "b", "both"], [1, 1, 2])
    for name, column, width in (
        ("a", rows[:, 0], 1),
        ("b", rows[:, 1], 2),
        ("both", rows[:, 2:], 3),
    ):
        least, low, high, most = found[name]
        assert_allclose([least, most], [column.min(), column.max()], atol=1e-6)
        assert_allclose([low, high], np.quantile(column, [0.01, 0.99]), atol=1.5 * width / BINS)


def test_values_at_the_ends_of_the_space_and_one_alone():
    ranges = ObservedRanges(SPACE)
    assert ranges.by_name(["a"], [1]) == {}
    ranges.add(SPACE.high[None])
    assert ranges.by_name(["a", "b"], [1, 1]) == {"a": [1.0] * 4, "b": [1.0] * 4}


def test_a_state_goes_on_counting():
    rows, whole, halves = seen(100), ObservedRanges(SPACE), [ObservedRanges(SPACE) for _ in "ab"]
    whole.add(rows)
    halves[0].add(rows[:30])
    halves[1].load_state_dict(halves[0].state_dict())
    halves[1].add(rows[30:])
    for name, part in whole.state_dict().items():
        assert_array_equal(part, halves[1].state_dict()[name])
