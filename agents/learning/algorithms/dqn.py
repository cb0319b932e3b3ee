"""DQN: deep Q-learning (Mnih et al. 2015)."""

from __future__ import annotations

from dataclasses import dataclass

from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import VecEnv

from automix.agents.config.agent import AGENTS, AgentInfo
from automix.agents.learning.policy_nets import action_values
from automix.agents.learning.sb3 import ExploringSettings, exploring
from automix.core.settings import setting


@dataclass(frozen=True, kw_only=True)
class DQNSettings(ExploringSettings):
    """Settings of DQN."""

    name: str = setting("dqn", affects="shape")


@AGENTS.register("dqn", AgentInfo(settings=DQNSettings, spaces=("flat",), net=action_values))
def dqn(settings: DQNSettings, env: VecEnv, budget: int, seed: int) -> DQN:
    """Deep Q-learning from a replay buffer."""
    return DQN("MlpPolicy", env, **exploring(settings, env, seed))
