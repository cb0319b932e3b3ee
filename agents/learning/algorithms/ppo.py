"""PPO: proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347)."""

from __future__ import annotations

from dataclasses import dataclass

from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv

from automix.agents.config.agent import AGENTS, AgentInfo
from automix.agents.learning.policy_nets import actor_critic
from automix.agents.learning.sb3 import ProximalSettings, proximal
from automix.core.settings import setting


@dataclass(frozen=True, kw_only=True)
class PPOSettings(ProximalSettings):
    """Settings of PPO."""

    name: str = setting("ppo", affects="shape")


@AGENTS.register(
    "ppo", AgentInfo(settings=PPOSettings, spaces=("flat", "factored", "box"), net=actor_critic)
)
def ppo(settings: PPOSettings, env: VecEnv, budget: int, seed: int) -> PPO:
    """Proximal policy optimisation; an update after every round of whole episodes."""
    return PPO("MlpPolicy", env, **proximal(settings, env, budget, seed))
