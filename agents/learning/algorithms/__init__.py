"""Learners from stable-baselines3 and sb3-contrib, one file each.

An entry builds the algorithm from ``AgentSettings``; what the checks and the export ask about it
is in its ``AgentInfo``.

Values meant for few, short, costly episodes are in ``configs/agent/<name>.yaml``, with the action
space and the reward that fit. To add an agent, write one file of each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from automix.agents.config.settings import AgentSettings
from automix.agents.learning.policy_nets import TakeNet
from automix.core.errors import ConfigError
from automix.core.registry import Info, Registry

MakeAgent = Callable[[AgentSettings, VecEnv, int, int], BaseAlgorithm]
"""(settings, environments, actions of an episode, seed) -> algorithm."""


@dataclass(frozen=True, kw_only=True)
class AgentInfo(Info):
    """What a learner states about itself."""

    spaces: tuple[str, ...]
    """The values of ``env.actions.space`` that it can play."""
    uses: tuple[str, ...]
    """The settings that it reads, beside those that every agent reads."""
    net: TakeNet
    """From the algorithm to the net of the exported policy."""


AGENTS: Registry[MakeAgent, AgentInfo] = Registry("agent", AgentInfo, __name__)

EVERY_AGENT = (
    *("name", "total_timesteps", "groups", "group_size", "stacked_groups"),
    *("learning_rate", "learning_rate_end", "normalise"),
)
"""Settings that every agent reads."""

WRAPPERS = {"flat": "FlatActions", "box": "BoxActions"}
"""In ``automix.envs.wrappers``, around a factored environment."""


def check_agent(settings: AgentSettings, space: str) -> None:
    """Check that the agent can play an action space and reads what it is told.

    Args:
        settings: Of the agent.
        space: ``env.actions.space``.

    Raises:
        ConfigError: If the name is unknown, the space does not fit, or a setting that this agent
            does not read is not at its default.
    """
    name, info = settings.name, AGENTS.info(settings.name)
    spaces = info.spaces
    if space not in spaces:
        wrapper = WRAPPERS.get(spaces[0])
        raise ConfigError(
            f"agent {name} needs env.actions.space={' or '.join(spaces)}, got {space}",
            f"give env.actions.space={spaces[0]}"
            + (
                f" (in Python: automix.envs.wrappers.{wrapper} around the environment)"
                if wrapper
                else ""
            ),
        )
    used = {*EVERY_AGENT, *info.uses}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.name not in used and value != field.default:
            raise ConfigError(
                f"agent.{field.name} is {value}, but agent {name} does not use it",
                f"leave it out; {name} uses {', '.join(sorted(used - {'name'}))}",
            )


def updates_of(settings: AgentSettings, budget: int) -> int:
    """Return how many rounds of whole episodes ``total_timesteps`` pays for.

    Args:
        settings: Of the agent.
        budget: Actions of an episode.

    Raises:
        ConfigError: If not even one, or none after which the agent learns.
    """
    rollout = settings.groups * settings.group_size * budget
    round_of = f"{settings.groups} groups x {settings.group_size} trainings x {budget} actions"
    given = f"agent.total_timesteps is {settings.total_timesteps}"
    waits = settings.learning_starts if _waits(settings.name) else 0
    least = (waits // rollout + 1) * rollout
    if settings.total_timesteps < rollout:
        raise ConfigError(
            f"{given}, below one update of {rollout} ({round_of})",
            f"use agent.total_timesteps={least} or more, or smaller groups",
        )
    updates = settings.total_timesteps // rollout
    if updates * rollout <= waits:
        raise ConfigError(
            f"{given}, but learning starts after {waits} and a round is {rollout} ({round_of})",
            f"use agent.total_timesteps={least} or more, or a lower agent.learning_starts",
        )
    return updates


def _waits(name: str) -> bool:
    return "learning_starts" in AGENTS.info(name).uses
