"""RecurrentPPO: PPO with an LSTM, for what one observation does not show."""

from __future__ import annotations

from dataclasses import dataclass

from sb3_contrib import RecurrentPPO
from stable_baselines3.common.vec_env import VecEnv

from automix.agents.config.agent import AGENTS, AgentInfo
from automix.agents.learning.policy_nets import actor_critic
from automix.agents.learning.sb3 import ProximalSettings, proximal
from automix.core.settings import setting


@dataclass(frozen=True, kw_only=True)
class RecurrentPPOSettings(ProximalSettings):
    """Settings of RecurrentPPO."""

    name: str = setting("recurrent_ppo", affects="shape")
    lstm_hidden_size: int = setting(32, affects="shape", least=1)
    """Width of the memory."""


@AGENTS.register(
    "recurrent_ppo",
    AgentInfo(settings=RecurrentPPOSettings, spaces=("flat", "factored", "box"), net=actor_critic),
)
def recurrent_ppo(
    settings: RecurrentPPOSettings, env: VecEnv, budget: int, seed: int
) -> RecurrentPPO:
    """PPO that remembers the episode in an LSTM; policy and critic have one each."""
    return RecurrentPPO("MlpLstmPolicy", env, **proximal(settings, env, budget, seed))
