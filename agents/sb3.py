"""Learners from stable-baselines3, set up for few, short, costly episodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch.nn as nn
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from agents.settings import AgentSettings
from automix.errors import ConfigError
from automix.registry import Registry

MakeAgent = Callable[[AgentSettings, VecEnv, int, int], BaseAlgorithm]
"""(settings, environments, epochs of an episode, seed) -> algorithm."""

AGENTS: Registry[MakeAgent] = Registry("agent")


@AGENTS.register("ppo")
def ppo(settings: AgentSettings, env: VecEnv, budget: int, seed: int) -> PPO:
    """Proximal policy optimisation; an update after every round of whole episodes.

    SB3's default of 2 048 steps per update and environment would never update here. All episodes
    of a round start and end together, so ``n_steps`` is the budget.
    """
    return PPO(
        "MlpPolicy",
        env,
        n_steps=budget,
        learning_rate=falling(settings.learning_rate, settings.learning_rate_end),
        batch_size=min(settings.batch_size, budget * env.num_envs),
        n_epochs=settings.n_epochs,
        gamma=settings.gamma,
        gae_lambda=settings.gae_lambda,
        clip_range=settings.clip_range,
        ent_coef=settings.ent_coef,
        vf_coef=settings.vf_coef,
        max_grad_norm=settings.max_grad_norm,
        policy_kwargs={"net_arch": list(settings.net_arch), "activation_fn": nn.Tanh},
        seed=seed,
        device="cpu",  # the net is tiny: a GPU would wait for the classifiers' results
    )


def falling(start: float, end: float) -> Callable[[float], float]:
    """Return a straight line from ``start`` to ``end`` over the progress that SB3 reports."""
    return lambda remaining: end + (start - end) * remaining


def updates_of(settings: AgentSettings, budget: int) -> int:
    """Return how many updates ``total_timesteps`` pays for.

    Raises:
        ConfigError: If not even one.
    """
    rollout = settings.groups * settings.group_size * budget
    if settings.total_timesteps < rollout:
        raise ConfigError(
            f"agent.total_timesteps is {settings.total_timesteps}, below one update of {rollout} "
            f"({settings.groups} groups x {settings.group_size} trainings x {budget} epochs)",
            f"use agent.total_timesteps={rollout} or more, or smaller groups",
        )
    return settings.total_timesteps // rollout


def policy_layers(agent: BaseAlgorithm) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return weights and biases from observation to action scores, tanh between them."""
    policy: Any = agent.policy
    if not isinstance(agent, OnPolicyAlgorithm):
        raise ConfigError(f"{type(agent).__name__} has no policy net that can be exported")
    body = [m for m in policy.mlp_extractor.policy_net if isinstance(m, nn.Linear)]
    return [
        (layer.weight.detach().cpu().numpy().copy(), layer.bias.detach().cpu().numpy().copy())
        for layer in [*body, policy.action_net]
    ]
