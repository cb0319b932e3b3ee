"""The grid: every fixed choice, on the same tasks."""

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


@CONTROLS.register("grid", ControlInfo(least=lambda choices: choices))
def grid(evaluator: SearchEvaluator, epochs: int) -> SearchResult:
    """Play every action throughout, on the same tasks, and take the best mean.

    What is left of the epochs is less than one task with all choices, and is not spent.
    """
    tasks = trainings_within("grid", evaluator, epochs) // len(evaluator.actions)
    scores = evaluator.play(evaluator.draw(tasks), [[action] for action in evaluator.actions])
    return result_of(evaluator, [evaluator.actions[int(np.argmax(scores.mean(0)))]])
