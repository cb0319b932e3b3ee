"""Saliency Grafting: salient cells drawn one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from automix.core.seeding import generator
from automix.mixes.grafting import probabilities
from tests.automix.mixes.drawing import SHARES, drawn, random_maps, realised
from tests.cases import each
from tests.references import grafting as reference
from tests.strategies import SEEDS


@each("guided", [False, True])
@each("size", [(32, 32), (7, 5)])
@each("share", SHARES)
def test_the_realised_share_scatters_around_the_wanted_one(share, size, guided):
    got = realised("grafting", share, size, guided=guided)
    assert abs(got.mean() - share) < 4 * (share * (1 - share) / 16 / 3000) ** 0.5
    if size == (32, 32) and not guided:  # 16 independent draws
        assert got.var() == pytest.approx(share * (1 - share) / 16, rel=0.12)


@given(seed=SEEDS, n=st.integers(1, 20), temperature=st.sampled_from([0.05, 0.2, 3.0]))
def test_the_probabilities_are_those_of_the_slow_twin(seed, n, temperature):
    rng = generator(seed)
    saliency = rng.random((6, n), dtype=np.float32) ** 3
    share = np.append(rng.random(4), [0, 1]).astype(np.float32)
    part = rng.dirichlet(np.full(n, 5.0)).astype(np.float32)
    got = probabilities(
        torch.from_numpy(saliency),
        torch.from_numpy(share)[:, None],
        torch.from_numpy(part),
        temperature,
    )
    assert bool(((got >= 0) & (got <= 1)).all())
    assert_close(got @ torch.from_numpy(part), torch.from_numpy(share), atol=2e-5, rtol=0)
    for i in range(6):
        wanted = reference.probabilities(
            saliency[i].tolist(), float(share[i]), part.tolist(), temperature
        )
        assert_close(got[i], torch.tensor(wanted), atol=2e-4, rtol=0)


def test_a_flat_map_makes_it_the_random_ablation():
    flat = torch.full((6, 16), 1 / 16)
    share = torch.tensor([[0.0], [0.1], [0.5], [0.77], [0.99], [1.0]])
    got = probabilities(flat, share, torch.full((16,), 1 / 16), 0.2)
    assert_close(got, share.expand(-1, 16))


def test_cells_below_the_median_come_in_only_when_the_others_are_taken():
    maps = random_maps(500, (8, 8))
    maps[:, 4:] = 0
    for share in (0.2, 0.5):
        weight = drawn(
            "grafting", np.full(500, share), (8, 8), guided=True, maps=[maps.flip(1), maps]
        ).weight
        assert not weight[:, 2:].any()
        assert float(weight[:, :2].mean()) == pytest.approx(2 * share, abs=0.03)
