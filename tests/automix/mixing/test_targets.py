"""Targets of classes and of probabilities, smoothed and mixed."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from automix.core.seeding import generator
from automix.masks.pairing import pair_batches
from automix.mixing.targets import as_targets, mix_targets
from tests.strategies import SEEDS


def test_targets_of_classes_are_one_hot_and_smoothing_spreads_its_mass_evenly():
    labels = torch.tensor([2, 0])
    assert as_targets(labels, 3).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert_close(as_targets(labels, 4, 0.2)[0], torch.tensor([0.05, 0.05, 0.85, 0.05]))
    assert_close(as_targets(labels.to(torch.uint8), 4, 0.2).sum(1), torch.ones(2))


def test_targets_that_are_soft_already_pass_through():
    soft = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    assert torch.equal(as_targets(soft, 2), soft)
    assert as_targets(soft.double(), 2).dtype == torch.float32
    assert_close(as_targets(soft, 2, 0.1), torch.tensor([[0.275, 0.725], [0.95, 0.05]]))


@given(seed=SEEDS, smoothing=st.floats(0, 0.9))
def test_smoothing_before_mixing_is_smoothing_after_it(seed, smoothing):
    rng = generator(seed)
    targets = torch.from_numpy(rng.dirichlet(np.ones(3), 4).astype(np.float32))
    lam, pairs = torch.from_numpy(rng.random(4, dtype=np.float32)), pair_batches(4, 4, "roll", rng)
    before = mix_targets(as_targets(targets, 3, smoothing), 3, pairs, lam)
    after = as_targets(mix_targets(targets, 3, pairs, lam), 3, smoothing)
    assert_close(before, after)


@given(seed=SEEDS, dtype=st.sampled_from([torch.int64, torch.int32, torch.uint8]))
def test_classes_are_mixed_as_their_probabilities_are(seed, dtype):
    rng = generator(seed)
    labels, lam = torch.from_numpy(rng.integers(0, 3, 9)), torch.from_numpy(rng.random(9)).float()
    pairs = pair_batches(9, 4, "permute", rng)
    mixed = mix_targets(labels.to(dtype), 3, pairs, lam)
    assert mixed.dtype == torch.float32
    assert_close(mixed, mix_targets(as_targets(labels, 3), 3, pairs, lam))
    whole = mixed[labels == labels[torch.from_numpy(pairs.partner)]]
    assert whole.unique().tolist() in ([0, 1], []), "the shares of one class sum to exactly 1"
