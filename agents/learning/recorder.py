"""What stands between the agent and its environments: a log that can be replayed, and records."""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from automix.agents.learning.ranges import ObservedRanges
from automix.agents.runs.progress import Tick
from automix.agents.runs.rundir import RunDirectory
from automix.core.errors import AutomixError, DataError, ResourceError
from automix.core.files import read_bytes, write_bytes, write_text

METRICS = "metrics.jsonl"

FIGURES = {
    "entropy": ("train/entropy_loss",),
    "approx_kl": ("train/approx_kl",),
    "explained_variance": ("train/explained_variance",),
    "value_loss": ("train/value_loss", "train/critic_loss", "train/loss"),
    "exploration_rate": ("rollout/exploration_rate",),
}
"""What a record tells of the agent, and where algorithms log it; none has all of it."""


_COUNTED = ("rounds", "steps", "episodes", "epochs", "passes", "score")


_VERSIONS_DIFFER = (
    "another machine or other versions round otherwise (the checkpoint's manifest.json names its "
    "versions): resume where it was written, or start another run"
)


class RolloutLog(VecEnvWrapper):
    """Writes down what the environments answered since a rollout began, and can replay it.

    An agent that goes on from the start of a rollout makes the same choices again. It is given the
    same answers, and environments that stand after the last of them need not be touched.

    Args:
        env: The environments.
    """

    def __init__(self, env: VecEnv) -> None:
        super().__init__(env)
        self._events: list[dict[str, Any]] = []
        self._place = 0
        self._replaying = self._loaded = False

    @property
    def replaying(self) -> bool:
        """Whether the last answer was one that had been written down."""
        return self._replaying

    def state_dict(self) -> list[dict[str, Any]]:
        """Return what has happened since the rollout began, as plain data."""
        return self._events

    def load_state_dict(self, events: Sequence[dict[str, Any]]) -> None:
        """Answer with these events first."""
        self._events, self._place, self._loaded = list(events), 0, bool(events)

    def begin(self) -> None:
        """Start a new rollout; one that is to be replayed starts from its beginning.

        Raises:
            DataError: If a rollout was to be replayed and the agent has ended it before.
        """
        if self._loaded and self._place == 0:
            return
        if self._place < len(self._events):
            raise _differs(f"it ends after {self._place} of {len(self._events)} steps")
        self._events, self._place, self._loaded = [], 0, False

    def reset(self) -> np.ndarray:
        """Start episodes."""
        known = self._next("reset")
        if known is None:
            known = self._add({"reset": np.array(self.venv.reset())})
        return known["reset"].copy()

    def step_async(self, actions: np.ndarray) -> None:
        """Start one epoch everywhere, or make sure that it is the one that was written down."""
        known = self._next("actions")
        if known is None:
            self._add({"actions": np.array(actions)})
            self.venv.step_async(actions)
            return
        wanted = known["actions"]
        # Bytes, so that nothing passes as equal that is not the same.
        if wanted.dtype != actions.dtype or wanted.tobytes() != np.asarray(actions).tobytes():
            raise _differs(f"the agent chooses otherwise at step {self._place}")

    def step_wait(self) -> VecEnvStepReturn:
        """Wait for the epoch to end everywhere."""
        known = self._events[self._place - 1]
        if not self._replaying:
            observations, rewards, dones, infos = self.venv.step_wait()
            known.update(observations=observations, rewards=rewards, dones=dones, infos=infos)
        # Copies: wrappers change rewards and infos in place.
        infos = [dict(info) for info in known["infos"]]
        arrays = (known[name].copy() for name in ("observations", "rewards", "dones"))
        return *arrays, infos

    def _next(self, kind: str) -> dict[str, Any] | None:
        """Return the next event that was written down, or None where there is none."""
        self._replaying = self._place < len(self._events)
        if not self._replaying:
            return None
        known = self._events[self._place]
        self._place += 1
        if kind not in known:
            raise _differs(f"the agent asks for {kind} at step {self._place}")
        return known

    def _add(self, event: dict[str, Any]) -> dict[str, Any]:
        self._events.append(event)
        self._place += 1
        return event


def _differs(how: str) -> DataError:
    return DataError(
        f"the rollout of the checkpoint does not come out the same: {how}", _VERSIONS_DIFFER
    )


class Recorder(VecEnvWrapper):
    """Stands between the agent and its environments and writes what each round of episodes showed.

    A callback would see the steps of some algorithms only. Nothing written here depends on
    wall-clock time.

    Args:
        env: The environments; all their episodes start and end together.
        directory: Receives ``metrics.jsonl``.
        logger: Of the agent.
        tick: Progress, once a round.
    """

    def __init__(self, env: VecEnv, directory: RunDirectory, logger: Logger, tick: Tick) -> None:
        super().__init__(env)
        self._directory, self._logger = directory, logger
        self.tick = tick
        self._round = RoundTotals()
        self._finished_round: RoundTotals | None = None
        self._first: np.ndarray | None = None
        assert isinstance(self.observation_space, spaces.Box)
        self.ranges = ObservedRanges(self.observation_space)
        self.rounds = self.steps = 0
        self.episodes = self.epochs = 0
        self.passes = 0
        self.score: float | None = None
        """Mean validation accuracy of the last round that was recorded."""

    def reset(self) -> np.ndarray:
        """Start episodes; those that have just started by themselves are not thrown away."""
        return self._seen(self.venv.reset()) if self._first is None else self._first

    def _seen(self, observations: Any) -> np.ndarray:
        self.ranges.add(observations)
        return np.asarray(observations)

    def step_async(self, actions: np.ndarray) -> None:
        """Start one epoch everywhere."""
        # The update that follows a round has happened by now, so its figures are known.
        self.record_round()
        self._first = None
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Count what the epoch showed."""
        observations, rewards, dones, infos = self.venv.step_wait()
        self._seen(observations)
        self.steps += self.num_envs
        if not np.isfinite(rewards).all():
            where = int(np.flatnonzero(~np.isfinite(rewards))[0])
            raise AutomixError(
                f"the reward of environment {where} at step {self.steps} is not finite",
                "this is a defect of the reward: please report it with the run's config.yaml",
            )
        for info, done in zip(infos, dones, strict=True):
            self._round.add(info, bool(done))
        if dones.all():
            self._finished_round, self._round = self._round, RoundTotals()
            self._first = observations  # type: ignore[assignment]
        return observations, rewards, dones, infos

    def record_round(self) -> None:
        """Write the record of the last round, if it has not been written."""
        done = self._finished_round
        if done is None:
            return
        self._finished_round = None
        self.rounds += 1
        self.episodes += done.episodes
        self.epochs += done.epochs
        self.passes += done.passes
        record = {
            "update": self.rounds,
            "timesteps": self.steps,
            "episodes": self.episodes,
            "classifier_epochs": self.epochs,
            **done.summary(),
            "agent": self._figures(),
        }
        self.score = record["val_accuracy"]
        self._directory.append(METRICS, record)
        self.tick(1, f"validation accuracy {record['val_accuracy']:.3f}")

    def state_dict(self) -> dict[str, Any]:
        """Return what has been counted, as plain data; the last round must have been recorded."""
        counted = {name: getattr(self, name) for name in _COUNTED}
        counted |= {"first": self._first, "round": self._round.state_dict()}
        return counted | {"ranges": self.ranges.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting from a state; later records leave the file."""
        for name in _COUNTED:
            setattr(self, name, state[name])
        self._first, self._finished_round = state["first"], None
        self._round = RoundTotals()
        self._round.load_state_dict(state["round"])
        self.ranges.load_state_dict(state["ranges"])
        cut_back(self._directory.path / METRICS, self.rounds)

    def forget(self) -> None:
        """Start with no record, whatever an earlier process has left."""
        cut_back(self._directory.path / METRICS, 0)

    def records(self) -> list[str]:
        """Return the records so far, as they were written."""
        path = self._directory.path / METRICS
        return path.read_text(encoding="utf-8").splitlines() if self.rounds else []

    def rewrite(self, records: Sequence[str]) -> None:
        """Let the file have these records, which ``load_state_dict`` counts on."""
        write_text(self._directory.path / METRICS, "".join(f"{line}\n" for line in records))

    def flush(self) -> None:
        """Make sure that the records are on the disk, before anything there counts on them."""
        path = self._directory.path / METRICS
        if not self.rounds:
            return
        try:
            with path.open("rb") as file:
                os.fsync(file.fileno())
        except OSError as error:
            raise ResourceError(
                f"{path} cannot be kept: {error.strerror or error}",
                "something else has changed the run's directory",
            ) from None

    def _figures(self) -> dict[str, float | None]:
        logged = self._logger.name_to_value
        found: dict[str, float | None] = {}
        for name, keys in FIGURES.items():
            value = next((logged[key] for key in keys if key in logged), None)
            if value is not None:
                found[name] = _finite(-value if name == "entropy" else value)
        return found


class RoundTotals:
    """What one round of episodes adds up to."""

    def __init__(self) -> None:
        self._mixes: dict[str, Counter[str]] = defaultdict(Counter)
        self._accuracies: dict[str, list[float]] = defaultdict(list)
        self._diverged = 0
        self.epochs = self.passes = 0

    @property
    def episodes(self) -> int:
        """Finished episodes."""
        return sum(len(values) for values in self._accuracies.values())

    def add(self, info: dict[str, Any], done: bool) -> None:
        """Count one step of one environment."""
        task = info["task"].partition(": ")[0]  # of a suite, the world
        self._mixes[task][info["mix"]] += 1
        self.epochs += info["epochs"]
        self.passes += info["passes"]
        # One that a fork cut short goes on as another's, and is counted at its end.
        if done and not info.get("TimeLimit.truncated"):
            self._accuracies[task].append(info["val_accuracy"])
            self._diverged += info["diverged"]

    def state_dict(self) -> dict[str, Any]:
        """Return what has been added up, as plain data."""
        return {
            "plays": {task: dict(plays) for task, plays in self._mixes.items()},
            "accuracies": {task: list(values) for task, values in self._accuracies.items()},
            "diverged": self._diverged,
            "epochs": self.epochs,
            "passes": self.passes,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on adding to what ``state_dict`` returned; for a round that is new."""
        for task, plays in state["plays"].items():
            self._mixes[task].update(plays)
        for task, values in state["accuracies"].items():
            self._accuracies[task] += values
        self._diverged = state["diverged"]
        self.epochs, self.passes = state["epochs"], state["passes"]

    def summary(self) -> dict[str, Any]:
        """Return mean accuracy and shares of each mix, in all and by kind of task."""
        everything = [value for values in self._accuracies.values() for value in values]
        return {
            "val_accuracy": float(np.mean(everything)),
            "diverged": self._diverged,
            "by_kind": {
                kind: {
                    "episodes": len(self._accuracies[kind]),
                    "val_accuracy": float(np.mean(self._accuracies[kind])),
                    "play": {mix: count / plays.total() for mix, count in sorted(plays.items())},
                }
                for kind, plays in sorted(self._mixes.items())
            },
        }


def _finite(value: Any) -> float | None:
    """Return a float, or None for what JSON cannot say (no variance to explain)."""
    return float(value) if np.isfinite(value) else None


def cut_back(path: Path, records: int) -> None:
    """Leave the first records in a file of JSON lines; a torn last line goes with the rest.

    Raises:
        DataError: If there are fewer.
        ResourceError: If the file cannot be written.
    """
    content = read_bytes(path, math.inf) if path.exists() else b""
    lines = [line for line in content.splitlines(keepends=True) if line.endswith(b"\n")]
    if len(lines) < records:
        raise DataError(
            f"{path} has {len(lines)} records, and the checkpoint was written after {records}",
            "put the file back, or start another run",
        )
    kept = b"".join(lines[:records])
    if kept != content:
        write_bytes(path, kept)
