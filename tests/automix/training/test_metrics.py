"""Metrics against plain numbers, and what an epoch adds up to."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from torch.testing import assert_close

from automix.core.seeding import generator
from automix.training.metrics import EpochLog, calibrated_loss, graded
from tests.automix.training.helpers import CPU
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


def test_an_epoch_in_which_nothing_happened_is_zero():
    log = EpochLog(3, CPU)
    assert {name: column.tolist() for name, column in log.columns().items()} == {
        "mixed_loss": [0, 0, 0],
        "partner_share": [0, 0, 0],
        "gradient_norm": [0, 0, 0],
    }
    assert log.forward == log.backward == [0, 0, 0]


def test_means_are_over_images_not_over_batches():
    """Two batches of 3 and 1 images; member 1 is told of its shares with 0, then alone."""
    log = EpochLog(2, CPU)
    log.mixed([0, 1], torch.tensor([1.0, 0.5, 0.0]))
    log.stepped(torch.tensor([[0.0, 2.0], [1.0, 2.0], [2.0, 2.0]]))
    log.mixed([1], torch.tensor([0.25]))
    log.mixed([0], torch.tensor([1.0]))
    log.stepped(torch.tensor([[5.0, 6.0]]))
    log.gradient_squares = torch.tensor([4.0, 9.0])
    columns = log.columns()
    assert columns["mixed_loss"].tolist() == [(3 * 1 + 5) / 4, (3 * 2 + 6) / 4]
    assert columns["partner_share"].tolist() == [1.5 / 4, (1.5 + 0.75) / 4]
    assert columns["gradient_norm"].tolist() == [2, 3]


def test_passes_are_counted_for_those_who_made_them():
    log = EpochLog(3, CPU)
    log.count(slice(None), 10, (1, 1))
    log.count([2, 0], 4, (1, 1))
    log.count([2], 5, (3, 0))
    assert log.forward == [14, 10, 29]
    assert log.backward == [14, 10, 14]


def test_one_member_that_is_not_a_number_leaves_the_others_sums_alone():
    """A product with zeros would carry it over: 0 times NaN is NaN."""
    log = EpochLog(2, CPU)
    log.mixed([0], torch.tensor([0.5, 0.5]))
    log.mixed([1], torch.tensor([0.0, 0.0]))
    log.stepped(torch.tensor([[math.nan, 1.0], [0.0, 1.0]]))
    log.stepped(torch.tensor([[math.inf, 3.0], [0.0, 3.0]]))
    columns = log.columns()
    assert columns["mixed_loss"][1] == 2
    assert math.isnan(columns["mixed_loss"][0])
    assert columns["partner_share"].tolist() == [0.25, 0.5]


@given(seed=st.integers(0, 2**31 - 1), members=st.integers(1, 4), batches=st.integers(1, 5))
def test_any_epoch_is_that_of_a_slow_twin(seed, members, batches):
    rng, log = generator(seed, "log"), EpochLog(members, CPU)
    losses, shares, images = np.zeros(members), np.zeros(members), 0
    for _ in range(batches):
        b = int(rng.integers(1, 6))
        cut = int(rng.integers(0, members + 1))
        for part in (list(range(cut)), list(range(cut, members))):
            lam = rng.random(b)
            if part:
                log.mixed(part, torch.from_numpy(lam).float())
            for member in part:
                shares[member] += sum(1 - one for one in lam)
        loss = rng.random((b, members))
        log.stepped(torch.from_numpy(loss).float())
        losses, images = losses + loss.sum(0), images + b
    columns = log.columns()
    np.testing.assert_allclose(columns["mixed_loss"].numpy(), losses / images, rtol=1e-5)
    np.testing.assert_allclose(columns["partner_share"].numpy(), shares / images, atol=1e-6)
