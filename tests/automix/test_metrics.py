"""Metrics against plain numbers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from torch.testing import assert_close

from automix.metrics import graded
from automix.seeding import generator
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
