"""MaskablePPO: PPO that takes only actions that the environment offers (arXiv:2006.14171)."""

from __future__ import annotations

from dataclasses import dataclass

from sb3_contrib import MaskablePPO
from stable_baselines3.common.vec_env import VecEnv

from automix.agents.config.agent import AGENTS, AgentInfo
from automix.agents.learning.policy_nets import actor_critic
from automix.agents.learning.sb3 import ProximalSettings, proximal
from automix.core.settings import setting


@dataclass(frozen=True, kw_only=True)
class MaskablePPOSettings(ProximalSettings):
    """Settings of MaskablePPO."""

    name: str = setting("maskable_ppo", affects="shape")


@AGENTS.register(
    "maskable_ppo",
    AgentInfo(settings=MaskablePPOSettings, spaces=("flat", "factored"), net=actor_critic),
)
def maskable_ppo(settings: MaskablePPOSettings, env: VecEnv, budget: int, seed: int) -> MaskablePPO:
    """PPO that takes only what the environment's ``action_masks`` offer."""
    return MaskablePPO("MlpPolicy", env, **proximal(settings, env, budget, seed))
