"""Successive halving over fixed choices: less time for what looks worse."""

from __future__ import annotations

import numpy as np

from automix.agents.contest.controls import (
    CONTROLS,
    ControlInfo,
    SearchResult,
    result_of,
    trainings_within,
)
from automix.agents.contest.controls.evaluator import SearchEvaluator


def rounds(choices: int) -> int:
    """Return how often the choices must be halved until one is left, at least once."""
    return max(1, (choices - 1).bit_length())


@CONTROLS.register(
    "successive_halving", ControlInfo(least=lambda choices: choices * rounds(choices))
)
def successive_halving(evaluator: SearchEvaluator, epochs: int) -> SearchResult:
    """Train with fixed choices in rounds of equal cost, and keep the better half after each.

    All that are left meet the same new tasks, so that each round has more tasks for fewer choices.
    They are judged by their mean over all tasks so far, which all of them have met. Karnin,
    Koren and Somekh, "Almost Optimal Exploration in Multi-Armed Bandits" (ICML 2013), section 3.
    """
    trainings = trainings_within("successive_halving", evaluator, epochs)
    left = np.arange(len(evaluator.actions))
    scores = np.empty((0, len(evaluator.actions)))
    for remaining in range(rounds(len(evaluator.actions)), 0, -1):
        tasks = trainings // remaining // len(left)
        trainings -= tasks * len(left)
        played = np.full((tasks, len(evaluator.actions)), np.nan)
        played[:, left] = evaluator.play(
            evaluator.draw(tasks), [[evaluator.actions[i]] for i in left]
        )
        scores = np.concatenate([scores, played])
        best_first = left[np.argsort(-scores[:, left].mean(0), kind="stable")]
        left = best_first[: -(-len(left) // 2)]
    return result_of(evaluator, [evaluator.actions[int(left[0])]])
