"""Who meets whom."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from automix.core.seeding import generator
from automix.masks.pairing import PAIRINGS, pair_batches
from tests.cases import each
from tests.references import blending
from tests.strategies import SEEDS

sizes = st.integers(1, 20)
every_pairing = each("name", list(PAIRINGS))


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


@every_pairing
@given(n=st.integers(1, 20), batch_size=st.integers(1, 25), seed=SEEDS)
def test_images_are_paired_within_their_batch(name, n, batch_size, seed):
    pairs = pair_batches(n, batch_size, name, generator(seed))
    assert pairs.partner.dtype == np.int64
    assert pairs.batch.tolist() == [i // batch_size for i in range(n)]
    assert pairs.batches == pairs.batch[-1] + 1
    assert sorted(pairs.partner) == list(range(n))
    assert (pairs.batch[pairs.partner] == pairs.batch).all()
    # Batch by batch it is what the function says, whatever is known of it beforehand.
    rng = generator(seed)
    for start in range(0, n, batch_size):
        size = min(batch_size, n - start)
        alone = start + PAIRINGS[name](size, rng)
        assert pairs.partner[start : start + size].tolist() == alone.tolist()


@every_pairing
def test_who_writes_to_pairs_changes_no_others(name):
    first = pair_batches(6, 3, name, generator(0))
    wanted = first.partner.tolist()
    first.partner[:] = -1
    assert pair_batches(6, 3, name, generator(0)).partner.tolist() == wanted


@every_pairing
@given(n=st.integers(1, 20), batch_size=st.integers(1, 25), seed=SEEDS)
def test_only_neighbours_are_called_neighbours(name, n, batch_size, seed):
    pairs = pair_batches(n, batch_size, name, generator(seed))
    if pairs.neighbours:
        assert pairs.partner.tolist() == blending.before(batch_size, n)
    assert pairs.neighbours == (name == "roll")


@given(n=st.integers(1, 20), batch_size=st.integers(1, 25))
def test_what_a_batch_has_each_of_its_images_has(n, batch_size):
    pairs = pair_batches(n, batch_size, "roll", generator(0))
    values = np.arange(pairs.batches) * 10
    assert pairs.each(values).tolist() == [10 * (i // batch_size) for i in range(n)]
    assert pairs.each(np.arange(n)).tolist() == list(range(n))
