"""The control that beat the learned policy in the published work."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from automix.agents.contest.schedules import SCHEDULES, ScheduleInfo
from automix.mixing.actions import MixAction


@SCHEDULES.register("random", ScheduleInfo(kind="random"))
def random(progress: float, *, actions: Sequence[MixAction], rng: np.random.Generator) -> MixAction:
    """Draw one of the agent's actions uniformly, anew each epoch."""
    return actions[int(rng.integers(len(actions)))]
