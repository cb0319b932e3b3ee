"""Learn the easy part on real images first, then mix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from automix.agents.contest.schedules import SCHEDULES, ScheduleInfo, strongest
from automix.mixing.actions import PLAIN, MixAction


@SCHEDULES.register("none_then_mix", ScheduleInfo(kind="schedule"))
def none_then_mix(
    progress: float, *, actions: Sequence[MixAction], rng: np.random.Generator, at: float = 0.3
) -> MixAction:
    """Use nothing for the first ``at`` (30 %) of the budget, then the strongest CutMix on offer."""
    return PLAIN if progress < at else strongest(actions)
