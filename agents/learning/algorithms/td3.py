"""TD3: twin delayed deterministic policy gradient (Fujimoto et al. 2018, arXiv:1802.09477)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from gymnasium import spaces
from stable_baselines3 import TD3
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import VecEnv

from automix.agents.config.agent import AGENTS, AgentInfo
from automix.agents.learning.policy_nets import squashed
from automix.agents.learning.sb3 import ReplaySettings, arguments
from automix.core.settings import setting


@dataclass(frozen=True, kw_only=True)
class TD3Settings(ReplaySettings):
    """Settings of TD3."""

    name: str = setting("td3", affects="shape")
    action_noise: float = setting(0.3, least=0)
    """Standard deviation of what is added to its numbers in [-1, 1] to explore."""
    policy_delay: int = setting(2, least=1)
    """Updates of the critics between those of the actor."""
    target_policy_noise: float = setting(0.2, least=0)
    target_noise_clip: float = setting(0.5, least=0)


@AGENTS.register("td3", AgentInfo(settings=TD3Settings, spaces=("box",), net=squashed))
def td3(settings: TD3Settings, env: VecEnv, budget: int, seed: int) -> TD3:
    """Deterministic policy gradient with two critics, exploring by Gaussian noise."""
    size = spaces.flatdim(env.action_space)
    noise = NormalActionNoise(np.zeros(size), np.full(size, settings.action_noise))
    return TD3("MlpPolicy", env, **arguments(settings, seed) | {"action_noise": noise})
