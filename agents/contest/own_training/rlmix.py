"""RL-Mix: PPO that chooses a saliency percentile for each image while the classifier trains.

Paper: Luong et al. 2023, arXiv:2212.04875. What is as published and what was repaired:
docs/rlmix.md.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv

from automix.agents.contest.own_training import OWN_TRAINING, Trained
from automix.agents.contest.own_training.rlmix_policy import ImageFeatures, ImagePolicy
from automix.core.seeding import borrowed_global_rng, derived_seed
from automix.data.tasks import TaskSpec
from automix.envs.rlmix.env import Observation, RLMixEnv
from automix.envs.rlmix.training import BatchTraining
from automix.envs.worlds import ImageWorld

EPOCHS_PER_UPDATE = 2
"""Published: 1 000 steps of 500 an epoch."""
PARTS = 4
"""Minibatches of an update; published: of 250 of its 1 000 steps."""
LEAST = 64
"""Fewer steps than this make no minibatch: PPO scales advantages by their spread within it."""
LEARNING_RATE = 3e-4
"""stable-baselines3's default: the published program never defines its own."""
POWER = 0.9
"""The rate falls with this power of what is left, as published."""


@OWN_TRAINING.register("rlmix")
def train_rlmix(world: ImageWorld, spec: TaskSpec, seed: int) -> Trained:
    """RL-Mix: PPO learns online, batch by batch, a saliency percentile for each image.

    It sees training data only: no validation, no test images.
    """
    env = OneTraining(RLMixEnv(world), spec, seed)
    agent_seed = derived_seed(seed, "rlmix")
    # SB3 initialises, samples and shuffles with the global generators: lend it private ones.
    with borrowed_global_rng(agent_seed):
        training = env.begin()
        agent = ppo(env, training.steps_per_epoch, agent_seed)
        agent.set_logger(Logger(folder=None, output_formats=[]))
        agent.learn(training.steps_per_epoch * world.budget, callback=UntilFinished())
    return Trained(training.population, training.history, ["rlmix"] * world.budget)


def ppo(env: gymnasium.Env[Observation, np.ndarray], steps_per_epoch: int, seed: int) -> PPO:
    """Return the published agent: SB3's defaults, an update every two epochs."""
    n_steps = EPOCHS_PER_UPDATE * steps_per_epoch
    return PPO(
        ImagePolicy,
        DummyVecEnv([lambda: env]),
        n_steps=n_steps,
        batch_size=minibatch(n_steps),
        learning_rate=lambda left: LEARNING_RATE * left**POWER,
        policy_kwargs={"features_extractor_class": ImageFeatures},
        seed=seed,
        device="cpu",  # the net is tiny: a GPU would wait for the classifier's results
    )


def minibatch(n_steps: int) -> int:
    """Return a fourth of the steps of an update, or so: what divides them and is not too small."""
    fitting = [n_steps // parts for parts in range(PARTS, 1, -1) if n_steps % parts == 0]
    return next((size for size in fitting if size >= LEAST), n_steps)


class OneTraining(gymnasium.Wrapper[Observation, np.ndarray, Observation, np.ndarray]):
    """A given training from its first epoch to its last, and none after it.

    ``DummyVecEnv`` resets what has ended, and would start another training after the last epoch.

    Args:
        env: The environment.
        spec: The task.
        seed: Of the training.
    """

    def __init__(self, env: RLMixEnv, spec: TaskSpec, seed: int) -> None:
        super().__init__(env)
        self._env, self._first = env, {"task": spec, "seed": seed}
        self._last: tuple[Observation, dict[str, Any]] | None = None

    def begin(self) -> BatchTraining:
        """Start the training and return it."""
        self._last = self._env.reset(options=self._first)
        assert self._env.training is not None
        return self._env.training

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Go on with the next epoch; the seed is given already."""
        if self._last is None:
            self._last = self._env.reset()
        return self._last

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take one batch."""
        observation, reward, ended, truncated, info = self._env.step(action)
        self._last = (observation, {}) if info["finished"] else None
        return observation, float(reward), ended, truncated, info


class UntilFinished(BaseCallback):
    """Ends the learning with the training; an update after it would be for nothing."""

    def _on_step(self) -> bool:
        return not self.locals["infos"][0]["finished"]
