"""The last map of each image: what moves, how far, and what nobody has seen yet."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from automix.core.seeding import generator
from automix.training.maps.saliency_bank import SaliencyBank
from tests.automix.training.helpers import CPU


def bank(n=6, size=(2, 3)):
    return SaliencyBank(n, size, CPU)


def store(one, rows, maps, weight):
    rows = np.asarray(rows)
    one.store(torch.from_numpy(rows), rows, maps, weight)


def test_nothing_is_known_at_first_and_every_map_is_uniform():
    one = bank()
    assert not one.knows(np.array([0]))
    assert one.knows(np.array([], dtype=np.int64)), "of no image nothing is missing"
    assert torch.equal(one.maps(torch.arange(6)), torch.full((6, 2, 3), 1 / 6))


def test_an_image_that_was_not_seen_at_all_counts_as_known():
    """Its crop showed padding only: asking again would show no more of it."""
    one = bank()
    store(one, [2], torch.ones(1, 2, 3), torch.zeros(1, 2, 3))
    assert one.knows(np.array([2]))
    assert torch.equal(one.maps(torch.tensor([2])), torch.full((1, 2, 3), 1 / 6))


@given(seed=st.integers(0, 2**31 - 1), looks=st.integers(1, 4))
def test_any_history_is_that_of_a_slow_twin(seed, looks):
    rng, one = generator(seed, "bank"), bank()
    twin, known = np.full((6, 2, 3), 1 / 6), set()
    for _ in range(looks):
        rows = rng.permutation(6)[: rng.integers(1, 6)]
        maps, weight = rng.random((2, len(rows), 2, 3))
        store(one, rows, torch.from_numpy(maps).float(), torch.from_numpy(weight).float())
        for row, new, far in zip(rows, maps, weight, strict=True):
            twin[row] = (1 - far) * twin[row] + far * new
            known.add(int(row))
    np.testing.assert_allclose(one.maps(torch.arange(6)).numpy(), twin, atol=1e-5)
    assert [one.knows(np.array([row])) for row in range(6)] == [row in known for row in range(6)]


def test_a_state_is_a_copy_and_so_is_what_is_made_of_it():
    one = bank()
    store(one, [3], torch.ones(1, 2, 3), torch.ones(1, 2, 3))
    state = one.state_dict()
    again = bank()
    again.load_state_dict(state)
    store(one, [0], torch.ones(1, 2, 3), torch.ones(1, 2, 3))
    store(again, [5], torch.ones(1, 2, 3), torch.ones(1, 2, 3))
    assert state["known"].tolist() == [False, False, False, True, False, False]
    assert again.knows(np.array([3, 5]))
    assert not again.knows(np.array([0]))
    assert not again.knows(np.array([3, 0])), "of a batch all must be known"
    both = again.maps(torch.tensor([3, 1, 3]))
    assert torch.equal(both, torch.tensor([1, 1 / 6, 1])[:, None, None].expand(3, 2, 3))
    assert torch.equal(again.maps(torch.tensor([3])), torch.ones(1, 2, 3))
    assert torch.equal(state["maps"][[0, 5]], torch.full((2, 2, 3), 1 / 6))


def test_maps_given_away_are_no_windows_into_the_bank():
    one = bank()
    one.maps(torch.tensor([1])).fill_(7)
    maps, weight = torch.ones(1, 2, 3), torch.ones(1, 2, 3)
    store(one, [2], maps, weight)
    maps.fill_(9)
    assert torch.equal(one.maps(torch.tensor([1])), torch.full((1, 2, 3), 1 / 6))
    assert torch.equal(one.maps(torch.tensor([2])), torch.ones(1, 2, 3))
