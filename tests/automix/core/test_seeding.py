"""One root seed, many named generators; the global ones are never moved."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from automix.core.seeding import borrowed_global_rng, derived_seed, generator, seed_sequence
from tests.contract import global_states

steps = st.one_of(st.text("abc", min_size=1, max_size=3), st.integers(0, 5))
paths = st.lists(steps, max_size=3).map(tuple)


@given(st.integers(0, 2**40), paths, paths)
def test_equal_paths_give_equal_numbers_and_others_do_not(root, path, other):
    numbers = generator(root, *path).integers(2**62, size=4)
    generator(root, *other).random(3)
    assert (generator(root, *path).integers(2**62, size=4) == numbers).all()
    if path != other:
        assert (generator(root, *other).integers(2**62, size=4) != numbers).all()
    assert (generator(root + 1, *path).integers(2**62, size=4) != numbers).all()


NUMBERS = [90, 57, 22, 960, 270]
SEED = 674398087


def test_the_numbers_are_the_same_in_every_process_and_release():
    assert generator(7, "group", 3, "order").integers(1000, size=5).tolist() == NUMBERS
    assert derived_seed(7, "weights") == SEED


@given(st.integers(0, 2**62), paths)
def test_a_derived_seed_fits_libraries_that_take_31_bits(root, path):
    assert 0 <= derived_seed(root, *path) < 2**31


def test_words_and_numbers_of_a_path_keep_their_places():
    keys = [("a", "b"), ("b", "a"), ("ab",), ("a", 0), ("a",), (0, "a"), ()]
    assert len({derived_seed(1, *key) for key in keys}) == len(keys)
    assert seed_sequence(1, "a", 2).spawn_key[1] == 2


def draws():
    return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002


def test_borrowed_generators_are_seeded_inside_and_put_back_after():
    before = global_states()
    with borrowed_global_rng(5):
        first = draws()
    assert global_states() == before
    with borrowed_global_rng(5):
        assert draws() == first
    with borrowed_global_rng(6):
        assert all(a != b for a, b in zip(draws(), first, strict=True))
    assert global_states() == before


def test_borrowed_generators_come_back_after_a_failure_too():
    before = global_states()
    with pytest.raises(ZeroDivisionError), borrowed_global_rng(5):
        draws()[0] / 0  # after a draw, so that there is something to put back
    assert global_states() == before


def test_borrowing_may_be_nested():
    with borrowed_global_rng(1):
        draws()
        inner_before = global_states()
        with borrowed_global_rng(2):
            draws()
        assert global_states() == inner_before
