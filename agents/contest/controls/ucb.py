"""A bandit over fixed choices: one choice an episode, the promising ones more often."""

from __future__ import annotations

import math

import numpy as np

from automix.agents.contest.controls import (
    CONTROLS,
    ControlInfo,
    SearchResult,
    result_of,
    trainings_within,
)
from automix.agents.contest.controls.evaluator import SearchEvaluator

TASKS_A_ROUND = 8
"""Tasks that are trained on before anything is decided anew, to keep all workers busy."""


@CONTROLS.register("ucb", ControlInfo(least=lambda choices: 2 * choices))
def ucb(evaluator: SearchEvaluator, epochs: int) -> SearchResult:
    """Play choices by their upper confidence bounds, and take the one with the best estimate.

    UCB1 (Auer, Cesa-Bianchi and Fischer, "Finite-time Analysis of the Multiarmed Bandit Problem",
    2002) on bare accuracies would drown in how much tasks differ. Here the half of the actions with
    the highest bounds meets the same tasks, and an accuracy is the sum of what the task gives and
    what the choice gives, fitted by least squares to all results so far. So a choice is
    neither praised for easy tasks nor blamed for strong company, as the difference to a batch's
    mean would. The bound is the estimate's standard error times ``sqrt(2 log n)`` after n pulls.
    """
    trainings = trainings_within("ucb", evaluator, epochs)
    effects = Effects(len(evaluator.actions))
    chosen = np.arange(len(evaluator.actions))
    tasks = min(TASKS_A_ROUND, trainings // len(chosen))
    while tasks:
        effects.add(
            chosen, evaluator.play(evaluator.draw(tasks), [[evaluator.actions[i]] for i in chosen])
        )
        trainings -= tasks * len(chosen)
        bounds = effects.means() + effects.errors() * math.sqrt(2 * math.log(effects.pulls))
        chosen = np.sort(np.argsort(-bounds, kind="stable")[: max(2, -(-len(bounds) // 2))])
        tasks = min(TASKS_A_ROUND, trainings // len(chosen))
    return result_of(evaluator, [evaluator.actions[int(np.argmax(effects.means()))]])


class Effects:
    """What choices give beside what tasks give: least squares on accuracy = task + choice + noise.

    Every task has an effect of its own, which is taken out exactly, so that only sums over choices
    are kept.

    Args:
        choices: How many there are.
    """

    def __init__(self, choices: int) -> None:
        self.pulls = 0
        self._normal = np.zeros((choices, choices))
        self._right = np.zeros(choices)
        self._squares = 0.0
        self._freedom = 1 - choices

    def add(self, chosen: np.ndarray, scores: np.ndarray) -> None:
        """Add the scores (tasks, k) of the choices (k,) that met these tasks."""
        tasks, k = scores.shape
        within = scores - scores.mean(1, keepdims=True)
        self._normal[np.ix_(chosen, chosen)] += tasks * (np.eye(k) - 1 / k)
        self._right[chosen] += within.sum(0)
        self._squares += float((within**2).sum())
        self._freedom += tasks * (k - 1)
        self.pulls += scores.size

    def means(self) -> np.ndarray:
        """Return each choice's effect, (choices,), relative to the mean of all."""
        return np.linalg.pinv(self._normal) @ self._right

    def errors(self) -> np.ndarray:
        """Return the standard errors of the effects, (choices,)."""
        rest = max(0.0, self._squares - float(self._right @ self.means()))
        variance = rest / max(1, self._freedom)
        return np.sqrt(variance * np.diag(np.linalg.pinv(self._normal)))
