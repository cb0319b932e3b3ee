"""What all algorithms hand to stable-baselines3 in the same way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn as nn
from stable_baselines3.common.vec_env import VecEnv

from automix.agents.config.settings import AgentSettings

DEVICE = "cpu"
"""The nets are tiny: a GPU would wait for the classifiers' results."""

GRADIENT = ("gamma", "gae_lambda", "ent_coef", "vf_coef", "max_grad_norm", "net_arch")
PROXIMAL = (*GRADIENT, "batch_size", "n_epochs", "clip_range")
REPLAY = (
    *("buffer_size", "learning_starts", "train_freq", "gradient_steps", "batch_size", "net_arch"),
    *("gamma", "n_steps", "tau"),
)
EXPLORING = (
    *(*REPLAY, "target_update_interval", "max_grad_norm"),
    *("exploration_fraction", "exploration_initial_eps", "exploration_final_eps"),
)
"""Settings that the functions below read."""


def falling(start: float, end: float) -> Callable[[float], float]:
    """Return a straight line from ``start`` to ``end`` over the progress that SB3 reports."""
    return lambda remaining: end + (start - end) * remaining


def shared(settings: AgentSettings, seed: int) -> dict[str, Any]:
    """Return the arguments of every algorithm."""
    rate = falling(settings.learning_rate, settings.learning_rate_end)
    return {"learning_rate": rate, "seed": seed, "device": DEVICE}


def gradient(settings: AgentSettings, seed: int) -> dict[str, Any]:
    """Return the arguments of actor-critics that learn from what they have just played."""
    return shared(settings, seed) | {
        "gamma": settings.gamma,
        "gae_lambda": settings.gae_lambda,
        "ent_coef": settings.ent_coef,
        "vf_coef": settings.vf_coef,
        "max_grad_norm": settings.max_grad_norm,
        "policy_kwargs": {"net_arch": list(settings.net_arch), "activation_fn": nn.Tanh},
    }


def proximal(settings: AgentSettings, env: VecEnv, budget: int, seed: int) -> dict[str, Any]:
    """Return the arguments of PPO and its kin: an update after every round of whole episodes.

    SB3's default of 2 048 steps per update and environment would never update here. All episodes
    of a round start and end together, so ``n_steps`` is the budget.
    """
    return gradient(settings, seed) | {
        "n_steps": budget,
        "batch_size": min(settings.batch_size, budget * env.num_envs),
        "n_epochs": settings.n_epochs,
        "clip_range": settings.clip_range,
    }


def replay(settings: AgentSettings, seed: int) -> dict[str, Any]:
    """Return the arguments of algorithms that learn from all that they have ever played."""
    return shared(settings, seed) | {
        "buffer_size": settings.buffer_size,
        "learning_starts": settings.learning_starts,
        "train_freq": settings.train_freq,
        "gradient_steps": settings.gradient_steps,
        "batch_size": settings.batch_size,
        "gamma": settings.gamma,
        "n_steps": settings.n_steps,
        "tau": settings.tau,
        "policy_kwargs": {"net_arch": list(settings.net_arch), "activation_fn": nn.ReLU},
    }


def exploring(settings: AgentSettings, env: VecEnv, seed: int) -> dict[str, Any]:
    """Return the arguments of DQN and its kin, which at times play at random."""
    return replay(settings, seed) | {
        # Every step of all environments is the most often that SB3 can.
        "target_update_interval": max(settings.target_update_interval, env.num_envs),
        "exploration_fraction": settings.exploration_fraction,
        "exploration_initial_eps": settings.exploration_initial_eps,
        "exploration_final_eps": settings.exploration_final_eps,
        "max_grad_norm": settings.max_grad_norm,
    }
