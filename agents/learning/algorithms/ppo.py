"""PPO: proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347)."""

from __future__ import annotations

from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv

from automix.agents.config.settings import AgentSettings
from automix.agents.learning.algorithms import AGENTS, AgentInfo
from automix.agents.learning.policy_nets import actor_critic
from automix.agents.learning.sb3 import PROXIMAL, proximal


@AGENTS.register(
    "ppo", AgentInfo(spaces=("flat", "factored", "box"), uses=PROXIMAL, net=actor_critic)
)
def ppo(settings: AgentSettings, env: VecEnv, budget: int, seed: int) -> PPO:
    """Proximal policy optimisation; an update after every round of whole episodes."""
    return PPO("MlpPolicy", env, **proximal(settings, env, budget, seed))
