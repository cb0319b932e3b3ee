"""Real images and mixed ones in turn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from automix.agents.contest.schedules import SCHEDULES, ScheduleInfo, strongest
from automix.mixing.actions import PLAIN, MixAction

PERIODS = 10


@SCHEDULES.register("alternating", ScheduleInfo(kind="schedule"))
def alternating(
    progress: float, *, actions: Sequence[MixAction], rng: np.random.Generator
) -> MixAction:
    """Switch between the strongest CutMix on offer and nothing, ten times each in a run."""
    return strongest(actions) if int(progress * 2 * PERIODS + 1e-6) % 2 == 0 else PLAIN
