"""What classifiers are worth on the test split, against counting by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from automix.mixing.actions import PLAIN, MixAction
from automix.training.evaluation import TestScores, test_scores
from automix.training.population import Population
from tests import tiny
from tests.cases import each

# pytest would take both for tests.
scores_of, Scores = test_scores, TestScores
del test_scores, TestScores


def population(members: int = 2, **settings) -> Population:
    made = Population([tiny.digits_task()] * members, tiny.trainer_settings(epochs=2, **settings))
    made.reset([4] * members)
    return made


def by_hand(probabilities: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Accuracy, and the gap between confidence and accuracy over 15 bins of confidence."""
    confidence, answer = probabilities.max(1), probabilities.argmax(1)
    right = answer == labels
    error = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            gap = abs(right[inside].mean() - confidence[inside].mean())
            error += inside.mean() * gap
    return float(right.mean()), float(error)


def test_accuracy_and_calibration_error_are_those_of_counting():
    trained = population()
    for action in (MixAction("cutmix", 0.5), PLAIN):
        trained.run_epoch([action, PLAIN])
    task = trained.tasks[0]
    logits = trained.logits(task.normalised(task.test_index))
    labels = task.images.labels[task.test_index]
    for member, score in enumerate(scores_of(trained)):
        accuracy, error = by_hand(logits[:, member].softmax(1).numpy(), labels)
        assert score.accuracy == pytest.approx(accuracy, abs=1e-6)
        assert score.calibration_error == pytest.approx(error, abs=1e-4)
        top5 = logits[:, member].numpy().argsort(1)[:, -5:] == labels[:, None]
        assert score.top5_accuracy == pytest.approx(top5.any(1).mean(), abs=1e-6)
        assert score.accuracy < score.top5_accuracy < 1.0
        assert 0.1 < score.accuracy < 1.0


def test_the_calibration_error_does_not_let_over_and_underconfidence_cancel():
    """Answers that are right half of the time, whatever their confidence."""
    guesses = population(1)
    labels = guesses.tasks[0].images.labels[guesses.tasks[0].test_index]
    rng = np.random.default_rng(0)
    answers = np.where(rng.random(len(labels)) < 0.5, labels, (labels + 1) % 10)
    logits = np.eye(10)[answers] * rng.uniform(0.0, 4.4, (len(labels), 1))
    shown = torch.from_numpy(logits.astype(np.float32))[:, None]
    guesses.logits = lambda images, members: shown
    accuracy, error = by_hand(shown[:, 0].softmax(1).numpy(), labels)
    (score,) = scores_of(guesses)
    assert score.accuracy == pytest.approx(accuracy, abs=1e-6)
    assert score.calibration_error == pytest.approx(error, abs=1e-5)
    assert error > 2 * abs(accuracy - shown.softmax(2).amax(2).mean())


def test_scores_are_of_the_test_part_and_of_the_true_labels():
    """A net that always says 3 is right as often as there are threes among the test images."""
    knows_three = population(1)
    knows_three.logits = lambda images, members: torch.eye(10)[3].expand(len(images), 1, 10) * 50
    task = knows_three.tasks[0]
    share = float((task.images.labels[task.test_index] == 3).mean())
    (score,) = scores_of(knows_three)
    assert score.accuracy == pytest.approx(share)
    assert score.calibration_error == pytest.approx(1 - share, abs=1e-6)


def test_scoring_changes_nothing():
    trained = population()
    trained.run_epoch([PLAIN, PLAIN])
    before = trained.state_dict()
    first, second = scores_of(trained), scores_of(trained)
    assert first == second
    after = trained.state_dict()
    for one, other in zip(before["members"], after["members"], strict=True):
        for name, tensor in one["classifier"].items():
            assert torch.equal(tensor, other["classifier"][name]), name


def test_a_diverged_training_knows_nothing():
    diverged = population(lr=1e30, warmup_epochs=0)
    metrics = diverged.run_epoch([PLAIN, MixAction("mixup", 0.5)])
    assert all(record.diverged for record in metrics)
    assert scores_of(diverged) == [Scores(0.0, 1.0, 0.0)] * 2


@each("classes, has", [(3, False), (5, False), (6, True)])
def test_five_guesses_say_something_of_more_than_five_classes_only(classes, has):
    """At the start and after a divergence alike."""
    task = tiny.fake_task((1, 8, 8), classes=classes)
    for lr, accuracy in ((0.01, None), (1e30, 0.0)):
        settings = tiny.trainer_settings(epochs=2, lr=lr, warmup_epochs=0, batch_size=6)
        training = Population([task], settings)
        training.reset([1])
        training.run_epoch([PLAIN])
        (score,) = scores_of(training)
        assert (score.top5_accuracy is not None) == has
        assert accuracy is None or score.top5_accuracy in (accuracy, None)


def test_training_never_reads_what_evaluation_reads():
    """Other test positions change the scores and not a bit of the training."""
    histories, scores = [], []
    task = tiny.digits_task()
    for index in (task.test_index, task.test_index[:50]):
        cut = replace(task, test_index=index)
        trained = Population([cut], tiny.trainer_settings(epochs=2))
        histories.append([trained.reset([4])[0], trained.run_epoch([PLAIN])[0]])
        scores.append(scores_of(trained))
    assert histories[0] == histories[1]
    assert scores[0] != scores[1]


def test_each_member_is_scored_on_the_test_part_of_its_own_task():
    """Two tasks of different statistics and test parts, in one population and alone."""
    task = tiny.digits_task()
    other = replace(task, test_index=task.test_index[:50], mean=task.mean + 0.1)
    settings = tiny.trainer_settings(epochs=2)
    together = Population([task, other, task], settings)
    together.reset([4, 4, 5])
    together.run_epoch([PLAIN] * 3)
    for member, (own, seed) in enumerate([(task, 4), (other, 4), (task, 5)]):
        alone = Population([own], settings)
        alone.reset([seed])
        alone.run_epoch([PLAIN])
        (wanted,) = scores_of(alone)
        got = scores_of(together)[member]
        assert got.accuracy == pytest.approx(wanted.accuracy, abs=0.005)
