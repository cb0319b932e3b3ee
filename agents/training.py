"""Learn a policy: rounds of whole episodes, an update after each."""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from agents.devices import stacked_groups
from agents.learners import AGENTS, check_agent, updates_of
from agents.progress import Tick, progress
from agents.rundir import RunDirectory
from agents.settings import RunSettings
from agents.vec_env import GroupVecEnv
from agents.workers import Worker
from automix.data.tasks import FamilySettings
from automix.errors import AutomixError
from automix.seeding import borrowed_global_rng, derived_seed
from automix.settings import TrainerSettings
from envs.game import EnvSettings, ImageWorld
from envs.mix_env import MixVectorEnv

log = logging.getLogger("automix")


@dataclass(frozen=True)
class Learned:
    """An agent after learning, and what it cost."""

    agent: BaseAlgorithm
    updates: int
    episodes: int
    classifier_epochs: int
    passes: int
    """Samples sent forward and backward through classifiers."""
    wall_s: float


def learn(
    settings: RunSettings, workers: Sequence[Worker], device: str, directory: RunDirectory
) -> Learned:
    """Learn a policy and append one record per update to ``metrics.jsonl``."""
    budget = settings.env.steps(settings.trainer.epochs)
    check_agent(settings.agent, settings.env.actions.space)
    updates = updates_of(settings.agent, budget)
    start = time.monotonic()
    stacked = stacked_groups(settings, device)
    make_block = partial(
        make_mix_block,
        settings.agent.group_size,
        stacked,
        settings.task,
        settings.trainer,
        settings.env,
        device,
    )
    blocks = settings.agent.groups // stacked
    env = GroupVecEnv(make_block, blocks, workers, derived_seed(settings.seed, "env"))
    agent_seed = derived_seed(settings.seed, "agent")
    # SB3 initialises, samples and shuffles with the global generators: lend it private ones.
    with borrowed_global_rng(agent_seed), progress("learning", updates) as tick:
        logger = Logger(folder=None, output_formats=[])
        recorder = Recorder(env, settings.trainer.epochs, directory, logger, tick)
        played = normalised(recorder) if settings.agent.normalise else recorder
        agent = AGENTS[settings.agent.name](settings.agent, played, budget, agent_seed)
        agent.set_logger(logger)
        agent.learn(updates * env.num_envs * budget)
    recorder.record_round()
    env.close()
    return Learned(
        agent=agent,
        updates=updates,
        episodes=recorder.episodes,
        classifier_epochs=agent.num_timesteps // budget * settings.trainer.epochs,
        passes=recorder.passes,
        wall_s=time.monotonic() - start,
    )


def make_mix_block(
    group_size: int,
    groups: int,
    task: FamilySettings,
    trainer: TrainerSettings,
    env: EnvSettings,
    device: str,
) -> MixVectorEnv:
    """Build groups of episodes that train together; importable by name, so that workers can."""
    world = ImageWorld(task, trainer, device)
    return MixVectorEnv(group_size, world, env, groups, AutoresetMode.DISABLED)


def normalised(env: VecEnv) -> VecNormalize:
    """Scale observations and rewards by what has been seen of them so far."""
    # Nothing is cut off: the export folds the scaling of observations into the policy's first
    # layer, which a bound could not be part of.
    return VecNormalize(env, gamma=1.0, clip_obs=float("inf"), clip_reward=float("inf"))


FIGURES = {
    "entropy": ("train/entropy_loss",),
    "approx_kl": ("train/approx_kl",),
    "explained_variance": ("train/explained_variance",),
    "value_loss": ("train/value_loss", "train/critic_loss", "train/loss"),
    "exploration_rate": ("rollout/exploration_rate",),
}
"""What a record tells of the agent, and where algorithms log it; none has all of it."""


class Recorder(VecEnvWrapper):
    """Stands between the agent and its environments and writes what each round of episodes showed.

    A callback would see the steps of some algorithms only. Nothing written here depends on
    wall-clock time.

    Args:
        env: The environments; all their episodes start and end together.
        epochs: Of an episode.
        directory: Receives ``metrics.jsonl``.
        logger: Of the agent.
        tick: Progress, once a round.
    """

    def __init__(
        self, env: VecEnv, epochs: int, directory: RunDirectory, logger: Logger, tick: Tick
    ) -> None:
        super().__init__(env)
        self._epochs, self._directory, self._logger, self._tick = epochs, directory, logger, tick
        self._round = Round()
        self._finished_round: Round | None = None
        self._first: np.ndarray | None = None
        self._rounds = self._steps = 0
        self.episodes = 0
        self.passes = 0

    def reset(self) -> np.ndarray:
        """Start episodes; those that have just started by themselves are not thrown away."""
        return self.venv.reset() if self._first is None else self._first  # type: ignore[return-value]

    def step_async(self, actions: np.ndarray) -> None:
        """Start one epoch everywhere."""
        # The update that follows a round has happened by now, so its figures are known.
        self.record_round()
        self._first = None
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Count what the epoch showed."""
        observations, rewards, dones, infos = self.venv.step_wait()
        self._steps += self.num_envs
        if not np.isfinite(rewards).all():
            where = int(np.flatnonzero(~np.isfinite(rewards))[0])
            raise AutomixError(
                f"the reward of environment {where} at step {self._steps} is not finite",
                "this is a defect of the reward: please report it with the run's config.yaml",
            )
        for info, done in zip(infos, dones, strict=True):
            self._round.add(info, bool(done))
        if dones.all():
            self._finished_round, self._round = self._round, Round()
            self._first = observations  # type: ignore[assignment]
        return observations, rewards, dones, infos

    def record_round(self) -> None:
        """Write the record of the last round, if it has not been written."""
        done = self._finished_round
        if done is None:
            return
        self._finished_round = None
        self._rounds += 1
        self.episodes += done.episodes
        self.passes += done.passes
        record = {
            "update": self._rounds,
            "timesteps": self._steps,
            "episodes": self.episodes,
            "classifier_epochs": self.episodes * self._epochs,
            **done.summary(),
            "agent": self._figures(),
        }
        self._directory.append("metrics.jsonl", record)
        self._tick(1, f"validation accuracy {record['val_accuracy']:.3f}")

    def _figures(self) -> dict[str, float | None]:
        logged = self._logger.name_to_value
        found: dict[str, float | None] = {}
        for name, keys in FIGURES.items():
            value = next((logged[key] for key in keys if key in logged), None)
            if value is not None:
                found[name] = _finite(-value if name == "entropy" else value)
        return found


class Round:
    """What one round of episodes adds up to."""

    def __init__(self) -> None:
        self._plays: dict[str, Counter[str]] = defaultdict(Counter)
        self._accuracies: dict[str, list[float]] = defaultdict(list)
        self._diverged = 0
        self.passes = 0

    @property
    def episodes(self) -> int:
        """Finished episodes."""
        return sum(len(values) for values in self._accuracies.values())

    def add(self, info: dict[str, Any], done: bool) -> None:
        """Count one step of one environment."""
        self._plays[info["task"]][info["mix"]] += 1
        self.passes += info["passes"]
        # One that a fork cut short goes on as another's, and is counted at its end.
        if done and not info.get("TimeLimit.truncated"):
            self._accuracies[info["task"]].append(info["val_accuracy"])
            self._diverged += info["diverged"]

    def summary(self) -> dict[str, Any]:
        """Return mean accuracy and shares of play, in all and by kind of task."""
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
                for kind, plays in sorted(self._plays.items())
            },
        }


def _finite(value: Any) -> float | None:
    """Return a float, or None for what JSON cannot say (no variance to explain)."""
    return float(value) if np.isfinite(value) else None
