"""Real images and mixed ones in turn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from automix.agents.contest.schedules import SCHEDULES, ScheduleInfo, strongest
from automix.mixing.actions import PLAIN, MixAction

PERIODS = 10


@SCHEDULES.register("alternating", ScheduleInfo(kind="schedule"))
def alternating(
    progress: float, *, menu: Sequence[MixAction], rng: np.random.Generator
) -> MixAction:
    """Switch between the menu's strongest CutMix and nothing, ten times each in a training."""
    return strongest(menu) if int(progress * 2 * PERIODS + 1e-6) % 2 == 0 else PLAIN
