"""SAC: soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905)."""

from __future__ import annotations

from dataclasses import dataclass

from stable_baselines3 import SAC
from stable_baselines3.common.vec_env import VecEnv

from automix.agents.config.agent import AGENTS, AgentInfo
from automix.agents.learning.policy_nets import squashed_mean
from automix.agents.learning.sb3 import ReplaySettings, arguments
from automix.core.settings import setting


@dataclass(frozen=True, kw_only=True)
class SACSettings(ReplaySettings):
    """Settings of SAC."""

    name: str = setting("sac", affects="shape")
    ent_coef: float = setting(0.003, least=0, most=1_000_000)


@AGENTS.register("sac", AgentInfo(settings=SACSettings, spaces=("box",), net=squashed_mean))
def sac(settings: SACSettings, env: VecEnv, budget: int, seed: int) -> SAC:
    """Soft actor-critic from a replay buffer."""
    return SAC("MlpPolicy", env, **arguments(settings, seed))
