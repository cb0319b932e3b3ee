"""TQC: SAC with truncated quantile critics (Kuznetsov et al. 2020, arXiv:2005.04269)."""

from __future__ import annotations

from sb3_contrib import TQC
from stable_baselines3.common.vec_env import VecEnv

from automix.agents.config.settings import AgentSettings
from automix.agents.learning.algorithms import AGENTS, AgentInfo
from automix.agents.learning.policy_nets import squashed_mean
from automix.agents.learning.sb3 import REPLAY, replay


@AGENTS.register(
    "tqc",
    AgentInfo(
        spaces=("box",),
        uses=(*REPLAY, "ent_coef", "n_quantiles", "top_quantiles_to_drop_per_net"),
        net=squashed_mean,
    ),
)
def tqc(settings: AgentSettings, env: VecEnv, budget: int, seed: int) -> TQC:
    """SAC whose critics tell quantiles of the return, the highest left out."""
    arguments = replay(settings, seed)
    arguments["policy_kwargs"]["n_quantiles"] = settings.n_quantiles
    return TQC(
        "MlpPolicy",
        env,
        ent_coef=settings.ent_coef,
        top_quantiles_to_drop_per_net=settings.top_quantiles_to_drop_per_net,
        **arguments,
    )
