"""DQN: deep Q-learning (Mnih et al. 2015)."""

from __future__ import annotations

from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import VecEnv

from automix.agents.config.settings import AgentSettings
from automix.agents.learning.algorithms import AGENTS, AgentInfo
from automix.agents.learning.policy_nets import action_values
from automix.agents.learning.sb3 import EXPLORING, exploring


@AGENTS.register("dqn", AgentInfo(spaces=("flat",), uses=EXPLORING, net=action_values))
def dqn(settings: AgentSettings, env: VecEnv, budget: int, seed: int) -> DQN:
    """Deep Q-learning from a replay buffer."""
    return DQN("MlpPolicy", env, **exploring(settings, env, seed))
