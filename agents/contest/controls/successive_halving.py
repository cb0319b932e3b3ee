"""Successive halving over fixed choices: less time for what looks worse."""

from __future__ import annotations

import numpy as np

from automix.agents.contest.controls import (
    CONTROLS,
    ControlInfo,
    SearchResult,
    found,
    trainings_within,
)
from automix.agents.contest.controls.evaluator import SearchEvaluator


def rounds(choices: int) -> int:
    """Return how often a menu must be halved until one is left, at least once."""
    return max(1, (choices - 1).bit_length())


@CONTROLS.register(
    "successive_halving", ControlInfo(least=lambda choices: choices * rounds(choices))
)
def successive_halving(lab: SearchEvaluator, epochs: int) -> SearchResult:
    """Play fixed choices in rounds of equal cost, and keep the better half after each.

    All that are left meet the same new tasks, so that each round has more tasks for fewer choices.
    They are judged by their mean over all tasks so far, which all of them have played. Karnin,
    Koren and Somekh, "Almost Optimal Exploration in Multi-Armed Bandits" (ICML 2013), section 3.
    """
    trainings = trainings_within("successive_halving", lab, epochs)
    left = np.arange(len(lab.menu))
    scores = np.empty((0, len(lab.menu)))
    for remaining in range(rounds(len(lab.menu)), 0, -1):
        tasks = trainings // remaining // len(left)
        trainings -= tasks * len(left)
        played = np.full((tasks, len(lab.menu)), np.nan)
        played[:, left] = lab.play(lab.draw(tasks), [[lab.menu[i]] for i in left])
        scores = np.concatenate([scores, played])
        best_first = left[np.argsort(-scores[:, left].mean(0), kind="stable")]
        left = best_first[: -(-len(left) // 2)]
    return found(lab, [lab.menu[int(left[0])]])
