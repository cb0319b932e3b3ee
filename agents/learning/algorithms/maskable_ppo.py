"""MaskablePPO: PPO that never plays what the environment does not offer (arXiv:2006.14171)."""

from __future__ import annotations

from sb3_contrib import MaskablePPO
from stable_baselines3.common.vec_env import VecEnv

from automix.agents.config.settings import AgentSettings
from automix.agents.learning.algorithms import AGENTS, AgentInfo
from automix.agents.learning.policy_nets import actor_critic
from automix.agents.learning.sb3 import PROXIMAL, proximal


@AGENTS.register(
    "maskable_ppo", AgentInfo(spaces=("flat", "factored"), uses=PROXIMAL, net=actor_critic)
)
def maskable_ppo(settings: AgentSettings, env: VecEnv, budget: int, seed: int) -> MaskablePPO:
    """PPO that plays only what the environment's ``action_masks`` offer."""
    return MaskablePPO("MlpPolicy", env, **proximal(settings, env, budget, seed))
