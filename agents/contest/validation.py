"""Pick the best fixed choice on tasks of its own, so that the compared ones decide nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from automix.agents.config.settings import RunSettings
from automix.agents.config.worlds import validation
from automix.agents.contest.compare import Match, play_matches
from automix.agents.contest.contestants import contestants_of
from automix.agents.contest.summary import Picked
from automix.agents.parallel.worker import Worker
from automix.agents.runs.result_cache import ResultCache
from automix.envs.codec import ActionCodec
from automix.envs.settings import EnvSettings


def pick_fixed(
    settings: RunSettings,
    env: EnvSettings,
    workers: Sequence[Worker],
    device: str,
    cache: ResultCache | None = None,
) -> Picked | None:
    """Train with the fixed choices among the contestants on validation tasks; return the best.

    The test split is not read. More tasks say more than more runs of each, so each is trained
    once. Without ``compare.validation_draws``, or with nothing to pick from, there is no pick.
    """
    actions = ActionCodec(env.actions).choices
    contestants = contestants_of(settings.compare.contestants, actions)
    fixed = [contestant for contestant in contestants if contestant.kind == "fixed"]
    specs = validation(settings)
    if not specs or not fixed:
        return None
    matches = [Match(spec=spec, task=spec.kind, scored=False) for spec in specs]
    trials = play_matches(
        matches, fixed, env, settings, workers, device, what="validating", cache=cache
    )
    accuracy = {
        c.name: float(np.mean([t["val_accuracy"] for t in trials if t["contestant"] == c.name]))
        for c in fixed
    }
    return Picked(
        name=max(accuracy, key=lambda name: accuracy[name]),
        tasks=len(specs),
        classifier_epochs=sum(len(trial["mixes"]) for trial in trials),
        by_contestant=accuracy,
    )
