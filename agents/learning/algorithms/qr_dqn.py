"""QR-DQN: Q-learning of quantiles of the return (Dabney et al. 2017, arXiv:1710.10044)."""

from __future__ import annotations

from sb3_contrib import QRDQN
from stable_baselines3.common.vec_env import VecEnv

from automix.agents.config.settings import AgentSettings
from automix.agents.learning.algorithms import AGENTS, AgentInfo
from automix.agents.learning.policy_nets import mean_quantiles
from automix.agents.learning.sb3 import EXPLORING, exploring


@AGENTS.register(
    "qr_dqn", AgentInfo(spaces=("flat",), uses=(*EXPLORING, "n_quantiles"), net=mean_quantiles)
)
def qr_dqn(settings: AgentSettings, env: VecEnv, budget: int, seed: int) -> QRDQN:
    """Q-learning of quantiles of the return; plays the best mean."""
    arguments = exploring(settings, env, seed)
    arguments["policy_kwargs"]["n_quantiles"] = settings.n_quantiles
    return QRDQN("MlpPolicy", env, **arguments)
