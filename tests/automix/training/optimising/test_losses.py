"""Losses of a step: cross-entropy, and what margin-based smoothing adds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from automix.core.seeding import generator
from automix.training.optimising.losses import excess, losses_and_gradients, training_losses
from automix.training.settings import MarginSettings
from tests.references import losses as references
from tests.strategies import SEEDS


def drawn(seed: int, scale: float = 8.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and targets, (6, 5)."""
    rng = generator(seed)
    logits = torch.from_numpy(rng.normal(0, scale, (6, 5)).astype(np.float32))
    return logits, torch.from_numpy(rng.dirichlet(np.ones(5), 6).astype(np.float32))


@given(
    seed=SEEDS, weight=st.sampled_from([0.0, 0.1, 2.0]), margin=st.sampled_from([0.0, 3.0, 10.0])
)
def test_losses_are_their_slow_twins(seed, weight, margin):
    logits, targets = drawn(seed)
    got = training_losses(logits, targets, MarginSettings(weight=weight, margin=margin))
    for one, z, t in zip(got.tolist(), logits.tolist(), targets.tolist(), strict=True):
        penalty = references.margin_penalty(z, margin)
        wanted = references.cross_entropy(z, t) + weight * penalty
        assert one == pytest.approx(wanted, abs=1e-4)


@given(seed=SEEDS, weight=st.sampled_from([0.0, 2.0]), each=st.sampled_from([1 / 50, 1 / 3]))
def test_slopes_are_what_autograd_gives_bit_by_bit(seed, weight, each):
    (logits, targets), margin = drawn(seed), MarginSettings(weight=weight, margin=3.0)
    targets = targets * torch.tensor([1, 1, 0.5, 2, 0, 1])[:, None]  # rows that weigh otherwise
    losses, gradients = losses_and_gradients(logits, targets, margin, each)
    twin = logits.clone().requires_grad_()
    wanted = training_losses(twin, targets, margin)
    wanted.backward(torch.full_like(wanted, each))
    assert torch.equal(losses, wanted)
    assert torch.equal(gradients, twin.grad)
    assert not any(one.requires_grad for one in (losses, gradients, logits))


@given(seed=SEEDS)
def test_gaps_within_the_margin_cost_nothing_and_move_nothing(seed):
    logits = drawn(seed)[0].clamp(-4.99, 4.99).requires_grad_()
    penalty = excess(logits, 10.0)
    assert not penalty.any()
    penalty.sum().backward()
    assert not logits.grad.any()
    assert bool((excess(logits, 0.5) > 0).any())


def test_beyond_the_margin_the_largest_logit_falls_and_the_far_ones_rise():
    logits = torch.tensor([[12.0, 5.0, 1.0, -3.0]], requires_grad=True)
    penalty = excess(logits, 10.0)
    assert penalty.tolist() == [(1.0 + 5.0) / 4]
    penalty.sum().backward()
    assert logits.grad.tolist() == [[0.5, 0.0, -0.25, -0.25]]


def test_without_weight_it_is_cross_entropy_bit_by_bit():
    logits, targets = drawn(0, 20.0)
    got = training_losses(logits, targets, MarginSettings(margin=0.0))
    assert torch.equal(got, torch.nn.functional.cross_entropy(logits, targets, reduction="none"))
