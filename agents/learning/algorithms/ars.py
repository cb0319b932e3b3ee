"""ARS: augmented random search (Mania et al. 2018, arXiv:1803.07055).

sb3-contrib evaluates the candidates one after the other, each on tasks of its own. Here each member
of a group is one: all candidates meet the same tasks, initial weights and batches, so that what
differs between their returns is what they chose, and a population costs one round.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sb3_contrib import ARS
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from automix.agents.config.agent import AGENTS, AgentInfo, AgentSettings
from automix.agents.learning.policy_nets import linear
from automix.agents.learning.sb3 import arguments
from automix.core.errors import ConfigError
from automix.core.settings import setting


class GroupARS(ARS):
    """ARS whose candidates act side by side: candidate c in every environment ``g * size + c``."""

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        """Note how much is left, of all that is learned and not of this call of ``learn``."""
        super()._update_current_progress_remaining(num_timesteps, self._total_timesteps)

    def _do_one_update(self, callback: BaseCallback, async_eval: Any) -> None:
        """Begin the rollout before the candidates are drawn, so that it can be replayed."""
        callback.on_rollout_start()
        super()._do_one_update(callback, async_eval)

    def evaluate_candidates(
        self, candidate_weights: torch.Tensor, callback: BaseCallback, async_eval: Any
    ) -> torch.Tensor:
        """Return each candidate's mean return over one episode of every group.

        Args:
            candidate_weights: (candidates, parameters).
            callback: Called at each step.
            async_eval: Not used.
        """
        env: Any = self.env
        policies = [copy.deepcopy(self.policy) for _ in candidate_weights]
        for policy, weights in zip(policies, candidate_weights, strict=True):
            policy.load_from_vector(weights.cpu().numpy())
        returns, observations, ended = np.zeros(env.num_envs), env.reset(), False
        # ARS switches gradients off, but classifiers may be training in this very process.
        with torch.enable_grad():
            while not ended:
                observations, rewards, dones, _ = env.step(_actions(policies, observations))
                self.num_timesteps += env.num_envs
                callback.on_step()
                returns, ended = returns + rewards, bool(dones.all())
        callback.on_rollout_end()
        return torch.as_tensor(returns.reshape(-1, len(policies)).mean(0), dtype=torch.float32)


def _actions(policies: list[Any], observations: np.ndarray) -> np.ndarray:
    """Return every environment's action, from the candidate that acts there."""
    chosen = [
        policy.predict(observations[number :: len(policies)], deterministic=True)[0]
        for number, policy in enumerate(policies)
    ]
    # (candidates, groups, ...) -> (groups * candidates, ...)
    stacked = np.stack(chosen, axis=1)
    return stacked.reshape(-1, *stacked.shape[2:])


@dataclass(frozen=True, kw_only=True)
class ARSSettings(AgentSettings):
    """Settings of ARS."""

    name: str = setting("ars", affects="shape")
    delta_std: float = setting(0.1, above=0, most=1_000_000)
    """Standard deviation of the candidates' parameters around the policy's."""
    n_top: int = setting(8, least=1)
    """Pairs of candidates that count, the best ones; at most all."""


@AGENTS.register("ars", AgentInfo(settings=ARSSettings, spaces=("flat", "box"), net=linear))
def ars(settings: ARSSettings, env: VecEnv, budget: int, seed: int) -> ARS:
    """Random search over linear policies; the members of a group are its candidates.

    Raises:
        ConfigError: If the members do not come in pairs, one on each side of the policy.
    """
    if settings.group_size % 2:
        raise ConfigError(
            f"agent.group_size is {settings.group_size}, but the candidates of ars come in pairs",
            f"use agent.group_size={settings.group_size + 1}",
        )
    pairs = settings.group_size // 2
    own = arguments(settings, seed) | {"n_delta": pairs, "n_top": min(settings.n_top, pairs)}
    return GroupARS("LinearPolicy", env, policy_kwargs={"with_bias": True}, **own)
