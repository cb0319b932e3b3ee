"""Metrics against plain numbers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from torch.testing import assert_close

from automix.metrics import accuracies, confidences, sample_losses
from automix.seeding import generator
from tests.strategies import SEEDS


def softmax(row):
    total = sum(math.exp(value) for value in row)
    return [math.exp(value) / total for value in row]


@given(seed=SEEDS)
def test_metrics_are_those_of_each_member_alone(seed):
    rng = generator(seed)
    b, k, classes = 5, 3, 4
    logits = torch.from_numpy(rng.normal(0, 2, (b, k, classes)))
    labels = torch.from_numpy(rng.integers(0, classes, b))
    losses, right, largest = sample_losses(logits, labels), accuracies(logits, labels), []
    assert losses.shape == (b, k)
    for member in range(k):
        rows = logits[:, member].tolist()
        for i, row in enumerate(rows):
            assert float(losses[i, member]) == pytest.approx(-math.log(softmax(row)[labels[i]]))
        hits = sum(row.index(max(row)) == label for row, label in zip(rows, labels, strict=True))
        assert float(right[member]) == pytest.approx(hits / b)
        largest.append(sum(max(softmax(row)) for row in rows) / b)
    assert_close(confidences(logits), torch.tensor(largest, dtype=logits.dtype))


def test_a_sure_and_right_answer_has_no_loss_and_a_blind_one_log_k():
    logits = torch.tensor([[[100.0, 0.0], [0.0, 0.0]]])
    losses = sample_losses(logits, torch.tensor([0]))
    assert_close(losses, torch.tensor([[0.0, math.log(2)]]))
    assert_close(confidences(logits), torch.tensor([1.0, 0.5]))
