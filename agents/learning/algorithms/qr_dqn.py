"""QR-DQN: Q-learning of quantiles of the return (Dabney et al. 2017, arXiv:1710.10044)."""

from __future__ import annotations

from dataclasses import dataclass

from sb3_contrib import QRDQN
from stable_baselines3.common.vec_env import VecEnv

from automix.agents.config.agent import AGENTS, AgentInfo
from automix.agents.learning.policy_nets import mean_quantiles
from automix.agents.learning.sb3 import ExploringSettings, exploring
from automix.core.settings import setting


@dataclass(frozen=True, kw_only=True)
class QRDQNSettings(ExploringSettings):
    """Settings of QR-DQN."""

    name: str = setting("qr_dqn", affects="shape")
    n_quantiles: int = setting(25, affects="shape", least=1)
    """Of the return."""


@AGENTS.register("qr_dqn", AgentInfo(settings=QRDQNSettings, spaces=("flat",), net=mean_quantiles))
def qr_dqn(settings: QRDQNSettings, env: VecEnv, budget: int, seed: int) -> QRDQN:
    """Q-learning of quantiles of the return; acts by the best mean."""
    return QRDQN("MlpPolicy", env, **exploring(settings, env, seed))
