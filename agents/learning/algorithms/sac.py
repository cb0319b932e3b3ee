"""SAC: soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905)."""

from __future__ import annotations

from stable_baselines3 import SAC
from stable_baselines3.common.vec_env import VecEnv

from automix.agents.config.settings import AgentSettings
from automix.agents.learning.algorithms import AGENTS, AgentInfo
from automix.agents.learning.policy_nets import squashed_mean
from automix.agents.learning.sb3 import REPLAY, replay


@AGENTS.register("sac", AgentInfo(spaces=("box",), uses=(*REPLAY, "ent_coef"), net=squashed_mean))
def sac(settings: AgentSettings, env: VecEnv, budget: int, seed: int) -> SAC:
    """Soft actor-critic from a replay buffer."""
    return SAC("MlpPolicy", env, ent_coef=settings.ent_coef, **replay(settings, seed))
