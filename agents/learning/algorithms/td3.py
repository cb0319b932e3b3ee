"""TD3: twin delayed deterministic policy gradient (Fujimoto et al. 2018, arXiv:1802.09477)."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces
from stable_baselines3 import TD3
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import VecEnv

from automix.agents.config.settings import AgentSettings
from automix.agents.learning.algorithms import AGENTS, AgentInfo
from automix.agents.learning.policy_nets import squashed
from automix.agents.learning.sb3 import REPLAY, replay


@AGENTS.register(
    "td3",
    AgentInfo(
        spaces=("box",),
        uses=(*REPLAY, "action_noise", "policy_delay", "target_policy_noise", "target_noise_clip"),
        net=squashed,
    ),
)
def td3(settings: AgentSettings, env: VecEnv, budget: int, seed: int) -> TD3:
    """Deterministic policy gradient with two critics, exploring by Gaussian noise."""
    size = spaces.flatdim(env.action_space)
    noise = NormalActionNoise(np.zeros(size), np.full(size, settings.action_noise))
    return TD3(
        "MlpPolicy",
        env,
        action_noise=noise,
        policy_delay=settings.policy_delay,
        target_policy_noise=settings.target_policy_noise,
        target_noise_clip=settings.target_noise_clip,
        **replay(settings, seed),
    )
