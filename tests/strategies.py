"""Hypothesis strategies for batches: awkward sizes on purpose."""

from __future__ import annotations

from hypothesis import strategies as st

from automix.pairing import PAIRINGS
from tests.contract import Case, Form

SIZES = st.sampled_from([(8, 8), (7, 5), (31, 31), (24, 40), (16, 4), (5, 32), (3, 2)])
"""Square, prime, flat, tall, not divisible by the grids, smaller than the grids."""

SEEDS = st.integers(0, 2**31 - 1)

RATIOS = st.one_of(st.sampled_from([0.0, 0.1, 0.3, 0.5]), st.floats(0.001, 0.5))


def cases(form: Form, rule: str) -> st.SearchStrategy[Case]:
    """Draw batches of 1 to 9 images of 1, 3 or 5 channels for one mix and label rule."""
    return st.builds(
        Case,
        form=st.just(form),
        rule=st.just(rule),
        b=st.sampled_from([8, 1, 2, 3, 5, 9]),
        channels=st.sampled_from([3, 1, 5]),
        size=SIZES,
        ratio=RATIOS,
        pairing=st.sampled_from(sorted(PAIRINGS)),
        share_per=st.sampled_from(["image", "batch"]),
        seed=SEEDS,
    )
