"""The tree-structured Parzen estimator of Optuna, over open-loop schedules."""

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

SEGMENTS = 5
"""Equal parts of a training, each with one choice."""
AT_ONCE = 8
"""Schedules that are asked for before any of them is judged, to keep all workers busy."""
ROUNDS = 8
"""Of so many schedules, before more tasks are taken to judge them on."""
TASKS = 32
"""The most that a schedule is judged on; beyond it, more epochs mean more schedules."""


@CONTROLS.register("optuna", ControlInfo(least=lambda choices: AT_ONCE, packages=("optuna",)))
def optuna(evaluator: SearchEvaluator, epochs: int) -> SearchResult:
    """Let Optuna's TPE propose schedules of five parts; take the best by mean over the same tasks.

    Bergstra et al., "Algorithms for Hyper-Parameter Optimization" (NeurIPS 2011). All schedules
    meet the same tasks with the same weights and batches, so that scores are paired. What is left
    of the epochs is less than one round of schedules.
    """
    from optuna import create_study, logging
    from optuna.samplers import TPESampler

    logging.set_verbosity(logging.WARNING)
    trainings = trainings_within("optuna", evaluator, epochs)
    starts = evaluator.draw(min(TASKS, max(1, trainings // (AT_ONCE * ROUNDS))))
    sampler = TPESampler(seed=evaluator.seed, multivariate=True)
    study = create_study(direction="maximize", sampler=sampler)
    choices = list(range(len(evaluator.actions)))
    for _ in range(trainings // (AT_ONCE * len(starts))):
        asked = [study.ask() for _ in range(AT_ONCE)]
        drawn = [
            [one.suggest_categorical(f"part {part}", choices) for part in range(SEGMENTS)]
            for one in asked
        ]
        scores = evaluator.play(starts, [[evaluator.actions[i] for i in own] for own in drawn])
        for one, score in zip(asked, np.mean(scores, axis=0), strict=True):
            study.tell(one, float(score))
    best = study.best_params
    return result_of(
        evaluator, [evaluator.actions[best[f"part {part}"]] for part in range(SEGMENTS)]
    )
