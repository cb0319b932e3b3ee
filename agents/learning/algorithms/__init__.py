"""Learners from stable-baselines3 and sb3-contrib, one file each: settings, and what builds it.

Values meant for few, short, costly episodes are in ``configs/agent/<name>.yaml``, with the action
space and the reward that fit. To add an agent, write one file of each.
"""

from __future__ import annotations

from automix.agents.config.agent import AGENTS, AgentSettings
from automix.core.errors import ConfigError

__all__ = ["AGENTS", "check_agent", "updates_of"]

WRAPPERS = {"flat": "FlatActions", "box": "BoxActions"}
"""In ``automix.envs.wrappers``, around a factored environment."""


def check_agent(settings: AgentSettings, space: str) -> None:
    """Check that the agent can act in an action space.

    Args:
        settings: Of the agent.
        space: ``env.actions.space``.

    Raises:
        ConfigError: If the name is unknown or the space does not fit.
    """
    spaces = AGENTS.info(settings.name).spaces
    if space in spaces:
        return
    hint, wrapper = f"give env.actions.space={spaces[0]}", WRAPPERS.get(spaces[0])
    if wrapper:
        hint += f" (in Python: automix.envs.wrappers.{wrapper} around the environment)"
    raise ConfigError(
        f"agent {settings.name} needs env.actions.space={' or '.join(spaces)}, got {space}", hint
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
    round_of = f"{settings.groups} groups x {settings.group_size} training runs x {budget} actions"
    given = f"agent.total_timesteps is {settings.total_timesteps}"
    waits = getattr(settings, "learning_starts", 0)
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
