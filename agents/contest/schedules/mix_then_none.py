"""Mix first, finish on real images (timm's ``--mixup-off-epoch``)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from automix.agents.contest.schedules import SCHEDULES, ScheduleInfo, strongest
from automix.mixing.actions import PLAIN, MixAction


@SCHEDULES.register("mix_then_none", ScheduleInfo(kind="schedule"))
def mix_then_none(
    progress: float, *, actions: Sequence[MixAction], rng: np.random.Generator, at: float = 0.7
) -> MixAction:
    """Use the strongest CutMix on offer for the first ``at`` (70 %) of the budget, then nothing."""
    return strongest(actions) if progress < at else PLAIN
