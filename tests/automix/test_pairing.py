"""Who meets whom."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automix.pairing import PAIRINGS
from automix.seeding import generator
from tests.strategies import SEEDS

sizes = st.integers(1, 20)
every_pairing = pytest.mark.parametrize("name", list(PAIRINGS))


@every_pairing
@given(b=sizes, seed=SEEDS)
def test_every_image_is_the_partner_of_exactly_one(name, b, seed):
    partner = PAIRINGS[name](b, generator(seed))
    assert partner.dtype == np.int64
    assert sorted(partner) == list(range(b))
    assert (PAIRINGS[name](b, generator(seed)) == partner).all()


@given(b=sizes, seed=SEEDS)
def test_derange_is_one_cycle_so_that_no_image_meets_itself(b, seed):
    partner = PAIRINGS["derange"](b, generator(seed))
    seen, at = [], 0
    for _ in range(b):
        seen.append(at)
        at = int(partner[at])
    assert at == 0
    assert sorted(seen) == list(range(b))


def test_derange_gives_each_other_image_the_same_chance():
    met = np.zeros((4, 4))
    for seed in range(1200):
        met[np.arange(4), PAIRINGS["derange"](4, generator(seed))] += 1
    assert (np.diag(met) == 0).all()
    others = met[~np.eye(4, dtype=bool)]
    assert abs(others - 400).max() < 65  # four standard deviations


def test_permute_makes_one_image_in_the_mean_meet_itself():
    meets = [(PAIRINGS["permute"](6, generator(s)) == np.arange(6)).sum() for s in range(1500)]
    assert abs(np.mean(meets) - 1) < 0.08  # three standard deviations


def test_flip_and_roll_are_those_of_timm_and_torchvision():
    assert PAIRINGS["flip"](5, generator(0)).tolist() == [4, 3, 2, 1, 0]
    assert PAIRINGS["roll"](5, generator(0)).tolist() == [4, 0, 1, 2, 3]
