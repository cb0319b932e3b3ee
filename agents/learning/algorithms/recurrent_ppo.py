"""RecurrentPPO: PPO with an LSTM, for what one observation does not show."""

from __future__ import annotations

from sb3_contrib import RecurrentPPO
from stable_baselines3.common.vec_env import VecEnv

from automix.agents.config.settings import AgentSettings
from automix.agents.learning.algorithms import AGENTS, AgentInfo
from automix.agents.learning.policy_nets import actor_critic
from automix.agents.learning.sb3 import PROXIMAL, proximal


@AGENTS.register(
    "recurrent_ppo",
    AgentInfo(
        spaces=("flat", "factored", "box"), uses=(*PROXIMAL, "lstm_hidden_size"), net=actor_critic
    ),
)
def recurrent_ppo(settings: AgentSettings, env: VecEnv, budget: int, seed: int) -> RecurrentPPO:
    """PPO that remembers the episode in an LSTM; policy and critic have one each."""
    arguments = proximal(settings, env, budget, seed)
    arguments["policy_kwargs"]["lstm_hidden_size"] = settings.lstm_hidden_size
    return RecurrentPPO("MlpLstmPolicy", env, **arguments)
