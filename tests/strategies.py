"""Batches to mix: awkward ones on purpose, from a list and from Hypothesis."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from automix.masks.pairing import PAIRINGS
from tests.contract import LAYOUTS, Case, Form

SIZES = st.sampled_from([(8, 8), (7, 5), (31, 31), (24, 40), (16, 4), (5, 32), (3, 2), (4, 4)])
"""Square, prime, flat, tall, not divisible by the grids, smaller than the grids."""

LINES = st.sampled_from([(1, 9), (6, 1), (1, 1)])
"""A single row, column or pixel."""

SEEDS = st.integers(0, 2**31 - 1)

RATIOS = st.one_of(st.sampled_from([0.0, 0.1, 0.3, 0.5]), st.floats(0.001, 0.5))

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.uint8]


def cases(form: Form, rule: str) -> st.SearchStrategy[Case]:
    """Draw batches of 1 to 9 images of 1, 3 or 5 channels for one mix and label rule."""
    return st.builds(
        Case,
        form=st.just(form),
        rule=st.just(rule),
        b=st.sampled_from([8, 1, 2, 3, 5, 9]),
        channels=st.sampled_from([3, 1, 5]),
        size=st.one_of(SIZES, LINES),
        ratio=RATIOS,
        pairing=st.sampled_from(sorted(PAIRINGS)),
        share_per=st.sampled_from(["image", "batch"]),
        dtype=st.sampled_from(DTYPES),
        layout=st.sampled_from(sorted(LAYOUTS)),
        soft=st.booleans(),
        seed=SEEDS,
    )


AWKWARD = [
    {"b": 5, "channels": 1, "size": (31, 31), "ratio": 0.3, "pairing": "roll"},
    {"b": 1, "channels": 5, "size": (7, 5), "dtype": torch.bfloat16, "soft": True},
    {"b": 9, "size": (1, 9), "pairing": "permute", "layout": "strided", "dtype": torch.uint8},
    {"b": 2, "channels": 5, "size": (24, 40), "pairing": "flip", "layout": "channels_last"},
    {"b": 3, "size": (4, 4), "pairing": "roll", "share_per": "batch", "soft": True, "ratio": 0.1},
    {"b": 7, "size": (13, 2), "dtype": torch.bfloat16, "layout": "transposed", "soft": True},
    {"b": 4, "channels": 1, "size": (6, 1), "dtype": torch.float16, "share_per": "batch"},
]
"""What every mix meets whatever Hypothesis draws: each kind of trouble at least once."""


def awkward(form: Form, rule: str) -> list[Case]:
    """Return the cases of the list."""
    return [Case(form=form, rule=rule, seed=i, **case) for i, case in enumerate(AWKWARD)]
