"""Metrics against plain numbers."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from scipy.optimize import minimize_scalar
from torch.testing import assert_close

from automix.core.seeding import generator
from automix.training.metrics import calibrated_loss, graded
from tests.strategies import SEEDS


def softmax(row):
    total = sum(math.exp(value) for value in row)
    return [math.exp(value) / total for value in row]


@given(seed=SEEDS)
def test_metrics_are_those_of_each_member_alone(seed):
    rng = generator(seed)
    b, k, classes = 5, 3, 4
    logits = torch.from_numpy(rng.normal(0, 2, (b, k, classes)).astype("float32"))
    labels = torch.from_numpy(rng.integers(0, classes, (b, k)))
    losses, right, largest = graded(logits, labels)
    assert losses.shape == right.shape == largest.shape == (b, k)
    for member in range(k):
        for i, row in enumerate(logits[:, member].tolist()):
            label = int(labels[i, member])
            assert float(losses[i, member]) == pytest.approx(
                -math.log(softmax(row)[label]), rel=1e-4
            )
            assert float(right[i, member]) == (row.index(max(row)) == label)
            assert float(largest[i, member]) == pytest.approx(max(softmax(row)), rel=1e-5)


def test_a_sure_and_right_answer_has_no_loss_and_a_blind_one_log_k():
    logits = torch.tensor([[[100.0, 0.0], [0.0, 0.0]]])
    losses, _, confidence = graded(logits, torch.tensor([[0, 0]]))
    assert_close(losses, torch.tensor([[0.0, math.log(2)]]))
    assert_close(confidence, torch.tensor([[1.0, 0.5]]))


def answers(seed, b=60, k=3, classes=5):
    """Logits that know something, and labels."""
    rng = generator(seed)
    labels = torch.from_numpy(rng.integers(0, classes, (b, k)))
    logits = torch.from_numpy(rng.normal(0, 1, (b, k, classes)).astype("float32"))
    return logits + 1.5 * F.one_hot(labels, classes), labels


@given(seed=SEEDS)
def test_the_calibrated_loss_is_the_least_over_all_temperatures(seed):
    logits, labels = answers(seed)
    found = calibrated_loss(logits, labels)
    for member in range(logits.shape[1]):
        own = logits[:, member].double(), labels[:, member]

        def loss(log_inverse, own=own):
            return float(F.cross_entropy(own[0] * math.exp(log_inverse), own[1]))

        least = minimize_scalar(loss, bounds=(-4, 4), method="bounded").fun
        assert float(found[member]) == pytest.approx(least, abs=1e-4)


@given(seed=SEEDS)
def test_the_calibrated_loss_does_not_see_how_sure_a_net_is(seed):
    logits, labels = answers(seed)
    for factor in (0.05, 20.0):
        assert_close(
            calibrated_loss(factor * logits, labels),
            calibrated_loss(logits, labels),
            atol=1e-3,
            rtol=0,
        )


def test_a_net_that_is_always_right_has_no_calibrated_loss_and_one_that_knows_nothing_log_k():
    labels = torch.arange(4)[:, None].expand(4, 2)
    right = F.one_hot(labels, 4).float()
    assert float(calibrated_loss(right, labels)[0]) < 1e-3
    assert_close(calibrated_loss(torch.zeros(4, 2, 4), labels), torch.full((2,), math.log(4)))
