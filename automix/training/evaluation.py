"""What trained classifiers are worth on images that no decision has seen."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from automix.core.extras import require
from automix.training.population import Population

CALIBRATION_BINS = 15

TOP = 5
"""Guesses that ``top5_accuracy`` allows."""


@dataclass(frozen=True)
class TestScores:
    """Scores on the test split."""

    accuracy: float
    """Share of right answers, in [0, 1]."""
    calibration_error: float
    """Expected calibration error, 15 bins, in [0, 1]."""
    top5_accuracy: float | None = None
    """Share of images whose class is among the five likeliest, in [0, 1]; None where there are no
    more than five classes."""


def test_scores(population: Population) -> list[TestScores]:
    """Score every member on the test split.

    A diverged training answers like one that knows nothing: accuracy 0, error 1.
    """
    scores: dict[int, TestScores] = {}
    for task in {id(task): task for task in population.tasks}.values():
        members = [m for m, own in enumerate(population.tasks) if own is task]
        labels = task.labels(task.test_index)
        images = task.split(task.test_index, torch.device("cpu"))
        logits = population.logits(images, members).cpu()
        scores |= {m: _scores(logits[:, i], labels) for i, m in enumerate(members)}
    return [scores[member] for member in range(population.members)]


def _scores(logits: torch.Tensor, labels: torch.Tensor) -> TestScores:
    require("torchmetrics")
    from torchmetrics.functional.classification import (
        multiclass_accuracy,
        multiclass_calibration_error,
    )

    classes = logits.shape[1]
    if not torch.isfinite(logits).all():
        return TestScores(0.0, 1.0, 0.0 if classes > TOP else None)
    probabilities = logits.softmax(1)
    accuracy = multiclass_accuracy(probabilities, labels, classes, average="micro")
    error = multiclass_calibration_error(probabilities, labels, classes, CALIBRATION_BINS)
    if classes <= TOP:
        return TestScores(float(accuracy), float(error))
    top = multiclass_accuracy(probabilities, labels, classes, average="micro", top_k=TOP)
    return TestScores(float(accuracy), float(error), float(top))
