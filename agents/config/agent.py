"""Settings that every agent has, and the table of agents, each of which brings its own.

The table is declared here and filled in ``automix.agents.learning.algorithms``, one file an agent,
so that a configuration can be checked by the settings class of the agent that it names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from automix.core.errors import ConfigError
from automix.core.registry import Info, Registry
from automix.core.settings import check_ranges, setting

MakeAgent = Callable[[Any, Any, int, int], Any]
"""(settings, environments, actions of an episode, seed) -> stable-baselines3's algorithm."""

DEFAULT_AGENT = "ppo"


@dataclass(frozen=True, kw_only=True)
class AgentSettings:
    """What every agent has; hyper-parameters keep stable-baselines3's names.

    ``configs/agent`` has values for each agent that are meant for few, short, costly episodes.
    """

    name: str = setting(DEFAULT_AGENT, affects="shape")
    """A name in ``AGENTS``."""
    total_timesteps: int = setting(76_800, least=1)
    """Actions taken to learn, each for ``env.epochs_per_action`` epochs; a whole number of updates
    is learned."""
    groups: int = setting(8, affects="shape", least=1)
    """Tasks drawn for each update, side by side."""
    group_size: int = setting(8, affects="shape", least=1)
    """Training runs of each task that share initial weights, batches and mixing draws."""
    stacked_groups: int = setting(0, affects="shape", least=0)
    """Groups whose classifiers may share stacks; 0 is all of them on a GPU and one on a CPU, where
    larger stacks gain little. May change the last digits of a result."""
    normalise: bool = setting(False, affects="shape")
    """Whether observations and rewards are scaled by running statistics (stable-baselines3's
    ``VecNormalize``); the export takes the scaling in."""
    learning_rate: float = setting(3e-3, above=0, most=1000)
    learning_rate_end: float = setting(3e-4, least=0, most=1000)
    """The rate falls in a straight line from one to the other."""

    def __post_init__(self) -> None:
        check_ranges(self, "agent")


@dataclass(frozen=True, kw_only=True)
class NetSettings(AgentSettings):
    """What agents have that learn nets by gradients from discounted rewards."""

    gamma: float = setting(1.0, least=0.0, most=1.0)
    net_arch: Sequence[int] = setting((64, 64), affects="shape")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.net_arch or min(self.net_arch) < 1:
            raise ConfigError(
                f"agent.net_arch is {list(self.net_arch)}, wanted widths of 1 or more"
            )


def names_of(settings: type[AgentSettings]) -> list[str]:
    """Return the names of an agent's settings."""
    return [field.name for field in fields(settings)]


@dataclass(frozen=True, kw_only=True)
class AgentInfo(Info):
    """What an agent states about itself."""

    settings: type[AgentSettings]
    spaces: tuple[str, ...]
    """The values of ``env.actions.space`` that it can act in."""
    net: Callable[..., Any]
    """From the algorithm to the net of the exported policy (``learning.policy_nets``)."""

    @property
    def uses(self) -> tuple[str, ...]:
        """The names of its settings, without those of every agent."""
        every = names_of(AgentSettings)
        return tuple(name for name in names_of(self.settings) if name not in every)

    @property
    def facts(self) -> dict[str, Any]:
        """The facts that can be printed."""
        return super().facts | {"uses": self.uses}


AGENTS: Registry[MakeAgent, AgentInfo] = Registry(
    "agent", AgentInfo, "automix.agents.learning.algorithms"
)


def settings_class(name: str) -> type[AgentSettings]:
    """Return the settings class of an agent.

    Raises:
        ConfigError: If there is no such agent.
    """
    return AGENTS.info(name).settings


def refuse_unused(values: dict[str, Any]) -> None:
    """Refuse settings of other agents.

    Args:
        values: Of the section ``agent``, by name.

    Raises:
        ConfigError: If there is one.
    """
    name = str(values.get("name", DEFAULT_AGENT))
    own, known = names_of(settings_class(name)), all_names()
    for key, value in values.items():
        if key in known and key not in own:
            raise ConfigError(
                f"agent.{key} is {value}, but agent {name} does not use it",
                f"leave it out; {name} uses {', '.join(sorted(set(own) - {'name'}))}",
            )


def all_names() -> list[str]:
    """Return the names of the settings of all agents, each once."""
    every = [name for agent in AGENTS for name in names_of(settings_class(agent))]
    return list(dict.fromkeys(every))
