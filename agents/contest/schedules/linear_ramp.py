"""More of the same mix as training goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from automix.agents.contest.schedules import SCHEDULES, ScheduleInfo, strongest
from automix.mixing.actions import MixAction


@SCHEDULES.register("linear_ramp", ScheduleInfo(kind="schedule"))
def linear_ramp(
    progress: float, *, actions: Sequence[MixAction], rng: np.random.Generator
) -> MixAction:
    """Raise the ratio of the strongest CutMix on offer from 0 in a straight line.

    The ratios on offer are the steps of the ramp, so that it takes no action the agent could not.
    """
    full = strongest(actions)
    steps = sorted({0.0} | {action.ratio for action in actions if action.method == full.method})
    nearest = min(steps, key=lambda ratio: abs(ratio - full.ratio * progress))
    return replace(full, ratio=nearest)
