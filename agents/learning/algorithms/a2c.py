"""A2C: advantage actor-critic (Mnih et al. 2016, arXiv:1602.01783)."""

from __future__ import annotations

from dataclasses import dataclass

from stable_baselines3 import A2C
from stable_baselines3.common.vec_env import VecEnv

from automix.agents.config.agent import AGENTS, AgentInfo
from automix.agents.learning.policy_nets import actor_critic
from automix.agents.learning.sb3 import GradientSettings, arguments
from automix.core.settings import setting


@dataclass(frozen=True, kw_only=True)
class A2CSettings(GradientSettings):
    """Settings of A2C."""

    name: str = setting("a2c", affects="shape")
    n_steps: int = setting(1, affects="shape", least=1)
    """Epochs between two updates."""


@AGENTS.register(
    "a2c", AgentInfo(settings=A2CSettings, spaces=("flat", "factored", "box"), net=actor_critic)
)
def a2c(settings: A2CSettings, env: VecEnv, budget: int, seed: int) -> A2C:
    """Advantage actor-critic; one step of the optimizer after every ``n_steps`` epochs.

    Adam takes the place of RMSprop, which starts slowly where there are a few hundred steps in all.
    """
    own = arguments(settings, seed) | {"n_steps": min(settings.n_steps, budget)}
    return A2C("MlpPolicy", env, use_rms_prop=False, **own)
