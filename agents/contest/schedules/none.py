"""No mixing at all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from automix.agents.contest.schedules import SCHEDULES, ScheduleInfo
from automix.mixing.actions import PLAIN, MixAction


@SCHEDULES.register("none", ScheduleInfo(kind="fixed"))
def none(progress: float, *, actions: Sequence[MixAction], rng: np.random.Generator) -> MixAction:
    """Never mix."""
    return PLAIN
