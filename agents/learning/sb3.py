"""What families of algorithms share: their settings, as arguments of stable-baselines3."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn as nn
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv
from torch.nn.utils import parameters_to_vector

from automix.agents.config.agent import AgentSettings, NetSettings, names_of
from automix.core.errors import ConfigError
from automix.core.settings import setting

DEVICE = "cpu"
"""The nets are tiny: a GPU would wait for the classifiers' results."""


@dataclass(frozen=True, kw_only=True)
class GradientSettings(NetSettings):
    """Actor-critics that learn from what they have just tried."""

    gae_lambda: float = setting(1.0, least=0.0, most=1.0)
    ent_coef: float = setting(0.003, least=0, most=1_000_000)
    vf_coef: float = setting(0.5, least=0, most=1_000_000)
    max_grad_norm: float = setting(0.5, above=0)


@dataclass(frozen=True, kw_only=True)
class ProximalSettings(GradientSettings):
    """PPO and its kin."""

    batch_size: int = setting(320, least=1)
    n_epochs: int = setting(8, least=1)
    clip_range: float = setting(0.2, above=0, most=1_000_000)


@dataclass(frozen=True, kw_only=True)
class ReplaySettings(NetSettings):
    """Agents that learn from all that they have ever tried."""

    batch_size: int = setting(320, least=1)
    n_steps: int = setting(1, affects="shape", least=1)
    """Epochs whose rewards are summed before the rest of the return is estimated."""
    buffer_size: int = setting(200_000, affects="shape", least=1)
    """Steps that are kept and learned from."""
    learning_starts: int = setting(1280, least=0)
    """Steps that are taken at random first."""
    train_freq: int = setting(1, least=1)
    """Epochs, of all training runs side by side, between two bouts of learning."""
    gradient_steps: int = setting(8, least=1)
    """Steps of the optimizer in a bout."""
    tau: float = setting(0.02, least=0.0, most=1.0)
    """How far the target net follows at each of its updates."""


@dataclass(frozen=True, kw_only=True)
class ExploringSettings(ReplaySettings):
    """DQN and its kin."""

    target_update_interval: int = setting(1, least=1)
    """Steps between updates of the target net, rounded to whole epochs of all training runs, at
    least one."""
    exploration_fraction: float = setting(0.6, least=0.0, most=1.0)
    """Share of learning over which random actions fall to their final share."""
    exploration_initial_eps: float = setting(1.0, least=0.0, most=1.0)
    exploration_final_eps: float = setting(0.05, least=0.0, most=1.0)
    max_grad_norm: float = setting(0.5, above=0)


def falling(start: float, end: float) -> Callable[[float], float]:
    """Return a straight line from ``start`` to ``end`` over the progress that SB3 reports."""
    return lambda remaining: end + (start - end) * remaining


OF_THE_POLICY = ("net_arch", "n_quantiles", "lstm_hidden_size")
"""Settings that stable-baselines3 takes as ``policy_kwargs``."""


def arguments(settings: AgentSettings, seed: int) -> dict[str, Any]:
    """Return the arguments of an algorithm: its own settings, which have their names."""
    every = names_of(AgentSettings)
    own = {n: getattr(settings, n) for n in names_of(type(settings)) if n not in every}
    rate = falling(settings.learning_rate, settings.learning_rate_end)
    own |= {"learning_rate": rate, "seed": seed, "device": DEVICE}
    if isinstance(settings, NetSettings):
        activation = nn.Tanh if isinstance(settings, GradientSettings) else nn.ReLU
        own["policy_kwargs"] = {name: own.pop(name) for name in OF_THE_POLICY if name in own}
        own["policy_kwargs"] |= {
            "net_arch": list(settings.net_arch),
            "activation_fn": activation,
        }
    return own


LARGEST = 1e12
"""What no weight of an agent that learns comes near: float32 squares nothing above 1e19."""

RATES = ("learning_rate", "ent_coef", "vf_coef", "delta_std")
"""Settings with which an agent may diverge where they are too large."""


def refuse_divergence(agent: BaseAlgorithm, settings: AgentSettings, updates: int) -> None:
    """Refuse an agent whose weights have become huge or are no numbers any more.

    Args:
        agent: Between two of its updates, or after one that failed.
        settings: Its settings.
        updates: It has learned from so many rounds.

    Raises:
        ConfigError: If its weights are so.
    """
    with torch.no_grad():
        largest = parameters_to_vector(agent.policy.parameters()).abs().max()
    if largest < LARGEST:  # which NaN is not
        return
    rates = [f"agent.{n}={getattr(settings, n):g}" for n in RATES if hasattr(settings, n)]
    raise ConfigError(
        f"agent {settings.name} has diverged after update {updates}: its weights are above "
        f"{LARGEST:g} or not finite, with {', '.join(rates)}",
        f"lower what is too large; python run.py config agent={settings.name} shows usual values",
    )


def proximal(settings: ProximalSettings, env: VecEnv, budget: int, seed: int) -> dict[str, Any]:
    """Return the arguments of PPO and its kin: an update after every round of whole episodes.

    SB3's default of 2 048 steps per update and environment would never update here. All episodes
    of a round start and end together, so ``n_steps`` is the budget.
    """
    batch = min(settings.batch_size, budget * env.num_envs)
    return arguments(settings, seed) | {"n_steps": budget, "batch_size": batch}


def exploring(settings: ExploringSettings, env: VecEnv, seed: int) -> dict[str, Any]:
    """Return the arguments of DQN and its kin, which at times act at random."""
    # Every step of all environments is the most often that SB3 can.
    interval = max(settings.target_update_interval, env.num_envs)
    return arguments(settings, seed) | {"target_update_interval": interval}
