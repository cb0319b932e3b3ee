"""Hand-designed schedules, one file each: a function from progress to an action.

A schedule has the signature::

    schedule(progress, *, actions, rng) -> MixAction

    progress   finished epochs / budget, in [0, 1)
    actions    what the agent can choose from, each once
    rng        numpy Generator of the trial, for schedules that draw
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from automix.core.registry import Info, Registry
from automix.mixing.actions import PLAIN, MixAction

Schedule = Callable[..., MixAction]


@dataclass(frozen=True, kw_only=True)
class ScheduleInfo(Info):
    """What a schedule states about itself."""

    kind: Literal["schedule", "random", "fixed"] = "schedule"
    """What reports group it by."""


SCHEDULES: Registry[Schedule, ScheduleInfo] = Registry("schedule", ScheduleInfo, __name__)


def strongest(actions: Sequence[MixAction]) -> MixAction:
    """Return the mix that a person would pick: CutMix if offered, as much as offered.

    Hand-designed schedules play it, so that they use nothing that the agent does not have.
    """
    mixes = [action for action in actions if action.mixes and action.saliency == "off"]
    if not mixes:
        mixes = [action for action in actions if action.mixes] or [PLAIN]
    named = [action for action in mixes if action.method == "cutmix"] or mixes
    return max(named, key=lambda action: action.ratio)


def progress_of(observation: np.ndarray) -> float:
    """Return the progress that an observation (d,) starts with, as a schedule compares it.

    Observations are float32, where 0.7 is a little less than 0.7: a schedule that changes at 0.7
    would change an epoch late.
    """
    return round(float(observation[0]), 6)


class SchedulePolicy:
    """A schedule that answers stable-baselines3's ``predict``.

    Args:
        schedule: The schedule.
        codec: Maps actions into the environment's action space (an ``ActionCodec``).
        seed: For schedules that draw.
    """

    def __init__(self, schedule: Schedule, codec: Any, seed: int = 0) -> None:
        self._schedule, self._codec = schedule, codec
        self._rng = np.random.default_rng(seed)

    def predict(
        self,
        observation: np.ndarray,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, Any]:
        """Return the actions for observations (d,) or (n, d), whose first entry is progress."""
        rows = np.atleast_2d(observation)
        actions = [
            self._codec.encode(
                self._schedule(progress_of(row), actions=self._codec.choices, rng=self._rng)
            )
            for row in rows
        ]
        return (actions[0] if np.ndim(observation) == 1 else np.stack(actions)), state
