"""Cross-entropy search over open-loop schedules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from automix.agents.contest.controls import (
    CONTROLS,
    ControlInfo,
    SearchResult,
    result_of,
    trainings_within,
)
from automix.agents.contest.controls.evaluator import SearchEvaluator


@dataclass(frozen=True)
class CrossEntropy:
    """How the search moves; tuned on digits (docs/controls.md)."""

    segments: int = 10
    """Equal parts of a training, each with one choice."""
    group: int = 16
    """Schedules drawn for each task, which are compared with each other."""
    rounds: int = 16
    """How often the probabilities move."""
    elite: float = 0.25
    """Share of the schedules of a round that the probabilities move towards, in (0, 1)."""
    smoothing: float = 0.6
    """How far they move, in (0, 1]."""


SETTINGS = CrossEntropy()


@CONTROLS.register("cem", ControlInfo(least=lambda choices: SETTINGS.group))
def cem(evaluator: SearchEvaluator, epochs: int) -> SearchResult:
    """Draw schedules, move each segment's probabilities towards the best; take the most probable.

    Every segment of a schedule has its own distribution over the actions, uniform at first. A round
    draws several tasks and for each of them schedules of its own: with as many training runs, many
    schedules that are judged once teach more than few that are judged often. A score is the
    difference to the mean of its task, so that hard tasks do not spoil it. Rubinstein, "The
    Cross-Entropy Method for Combinatorial and Continuous Optimization" (1999); smoothing as in de
    Boer et al., "A Tutorial on the Cross-Entropy Method" (2005), section 3.1.
    """
    trainings = trainings_within("cem", evaluator, epochs)
    rounds = min(SETTINGS.rounds, trainings // SETTINGS.group)
    odds = np.full((SETTINGS.segments, len(evaluator.actions)), 1 / len(evaluator.actions))
    for remaining in range(rounds, 0, -1):
        tasks = trainings // remaining // SETTINGS.group
        drawn = draw_schedules(odds, tasks * SETTINGS.group, evaluator.rng)
        scores = _scores(evaluator, drawn)
        trainings -= len(drawn)
        odds = moved(odds, drawn, scores)
    return result_of(evaluator, [evaluator.actions[i] for i in odds.argmax(1)])


def draw_schedules(odds: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw choices (count, segments) from each segment's probabilities (segments, choices)."""
    ladder = odds.cumsum(1)
    ladder[:, -1] = 1.0
    return (rng.random((count, len(odds), 1)) >= ladder).sum(2)


def moved(odds: np.ndarray, drawn: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the probabilities, moved towards how often the best schedules make each choice.

    Args:
        odds: (segments, choices), each row sums to 1.
        drawn: (n, segments) choices.
        scores: (n,), higher is better.
    """
    best = drawn[np.argsort(-scores, kind="stable")[: max(1, round(SETTINGS.elite * len(drawn)))]]
    share = (best[:, :, None] == np.arange(odds.shape[1])).mean(0)
    return odds + SETTINGS.smoothing * (share - odds)


def _scores(evaluator: SearchEvaluator, drawn: np.ndarray) -> np.ndarray:
    """Play schedules (n, segments), a group on each new task; return (n,) relative scores."""
    starts = evaluator.draw(len(drawn) // SETTINGS.group)
    schedules = [[evaluator.actions[i] for i in row] for row in drawn]
    scores = evaluator.play_each([s for s in starts for _ in range(SETTINGS.group)], schedules)
    by_task = scores.reshape(len(starts), SETTINGS.group)
    return (by_task - by_task.mean(1, keepdims=True)).ravel()
