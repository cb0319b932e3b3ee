"""TQC: SAC with truncated quantile critics (Kuznetsov et al. 2020, arXiv:2005.04269)."""

from __future__ import annotations

from dataclasses import dataclass

from sb3_contrib import TQC
from stable_baselines3.common.vec_env import VecEnv

from automix.agents.config.agent import AGENTS, AgentInfo
from automix.agents.learning.policy_nets import squashed_mean
from automix.agents.learning.sb3 import ReplaySettings, arguments
from automix.core.settings import setting


@dataclass(frozen=True, kw_only=True)
class TQCSettings(ReplaySettings):
    """Settings of TQC."""

    name: str = setting("tqc", affects="shape")
    ent_coef: float = setting(0.003, least=0, most=1_000_000)
    n_quantiles: int = setting(25, affects="shape", least=1)
    """Of the return."""
    top_quantiles_to_drop_per_net: int = setting(2, least=0)
    """Guards against hoping too much."""


@AGENTS.register("tqc", AgentInfo(settings=TQCSettings, spaces=("box",), net=squashed_mean))
def tqc(settings: TQCSettings, env: VecEnv, budget: int, seed: int) -> TQC:
    """SAC whose critics estimate quantiles of the return, the highest left out."""
    return TQC("MlpPolicy", env, **arguments(settings, seed))
