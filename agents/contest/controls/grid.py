"""The grid: every fixed choice, on the same tasks."""

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


@CONTROLS.register("grid", ControlInfo(least=lambda choices: choices))
def grid(lab: SearchEvaluator, epochs: int) -> SearchResult:
    """Play every choice of the menu throughout, on the same tasks, and take the best mean.

    What is left of the epochs is less than one task with all choices, and is not spent.
    """
    tasks = trainings_within("grid", lab, epochs) // len(lab.menu)
    scores = lab.play(lab.draw(tasks), [[action] for action in lab.menu])
    return found(lab, [lab.menu[int(np.argmax(scores.mean(0)))]])
