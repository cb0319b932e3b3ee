"""The steps of a rollout, written down, so that they can be played to the agent again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from automix.core.errors import DataError

_VERSIONS_DIFFER = (
    "another machine or other versions round otherwise (the checkpoint's manifest.json names its "
    "versions): resume where it was written, or start another run"
)


class RolloutLog(VecEnvWrapper):
    """Notes what the environments answered since a rollout began, and can play it again.

    An agent that goes on from the start of a rollout makes the same choices again. It is given the
    same answers, and environments that stand after the last of them need not be touched.

    Args:
        env: The environments.
    """

    def __init__(self, env: VecEnv) -> None:
        super().__init__(env)
        self._events: list[dict[str, Any]] = []
        self._played = 0
        self._again = self._playing = False

    @property
    def events(self) -> list[dict[str, Any]]:
        """What has happened since the rollout began; plain data."""
        return self._events

    @property
    def again(self) -> bool:
        """Whether the last answer was one that had been written down."""
        return self._again

    def begin(self) -> None:
        """Start a new rollout; one that is to be played again starts from its beginning.

        Raises:
            DataError: If a rollout was to be played again and the agent has ended it before.
        """
        if self._playing and self._played == 0:
            return
        if self._played < len(self._events):
            raise _differs(f"it ends after {self._played} of {len(self._events)} steps")
        self._events, self._played, self._playing = [], 0, False

    def play_again(self, events: Sequence[dict[str, Any]]) -> None:
        """Answer with these events first."""
        self._events, self._played, self._playing = list(events), 0, bool(events)

    def reset(self) -> np.ndarray:
        """Start episodes."""
        noted = self._next("reset")
        if noted is None:
            noted = self._note({"reset": np.array(self.venv.reset())})
        return noted["reset"].copy()

    def step_async(self, actions: np.ndarray) -> None:
        """Start one epoch everywhere, or make sure that it is the one that was noted."""
        noted = self._next("actions")
        if noted is None:
            self._note({"actions": np.array(actions)})
            self.venv.step_async(actions)
            return
        wanted = noted["actions"]
        # Bytes, so that nothing passes as equal that is not the same.
        if wanted.dtype != actions.dtype or wanted.tobytes() != np.asarray(actions).tobytes():
            raise _differs(f"the agent chooses otherwise at step {self._played}")

    def step_wait(self) -> VecEnvStepReturn:
        """Wait for the epoch to end everywhere."""
        noted = self._events[self._played - 1]
        if not self._again:
            observations, rewards, dones, infos = self.venv.step_wait()
            noted.update(observations=observations, rewards=rewards, dones=dones, infos=infos)
        # Copies: who is told them changes rewards and infos in place.
        infos = [dict(info) for info in noted["infos"]]
        arrays = (noted[name].copy() for name in ("observations", "rewards", "dones"))
        return *arrays, infos

    def _next(self, kind: str) -> dict[str, Any] | None:
        """Return the next event that was written down, or None where there is none."""
        self._again = self._played < len(self._events)
        if not self._again:
            return None
        noted = self._events[self._played]
        self._played += 1
        if kind not in noted:
            raise _differs(f"the agent asks for {kind} at step {self._played}")
        return noted

    def _note(self, event: dict[str, Any]) -> dict[str, Any]:
        self._events.append(event)
        self._played += 1
        return event


def _differs(how: str) -> DataError:
    return DataError(
        f"the rollout of the checkpoint does not come out the same: {how}", _VERSIONS_DIFFER
    )
