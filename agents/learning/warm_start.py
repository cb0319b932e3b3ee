"""Go on learning from a policy: its net and its interface instead of fresh ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from automix.agents.config.agent import AGENTS, AgentSettings
from automix.agents.config.settings import RunSettings
from automix.agents.learning.algorithms import check_agent
from automix.agents.learning.policy_nets import WARM, actor_critic
from automix.core.errors import ConfigError
from automix.envs.settings import EnvSettings
from automix.policy.policy import MixPolicy


def going_on_from(policy: MixPolicy, interface: EnvSettings, settings: RunSettings) -> RunSettings:
    """Return settings whose agent sees, chooses and computes as a policy does.

    Args:
        policy: What to begin with.
        interface: Its actions, observations and times to choose; reward and fork stay the run's.
        settings: Of the run; its agent takes the widths of the policy's net.

    Raises:
        ConfigError: If the agent cannot begin with a policy, or not with this one.
    """
    agent, net = settings.agent, policy.net
    able = [name for name in AGENTS if AGENTS.info(name).net in WARM]
    if agent.name not in able:
        raise ConfigError(
            f"agent {agent.name} cannot go on from a policy", f"agents that can: {', '.join(able)}"
        )
    check_agent(agent, interface.actions.space)
    hidden = [len(bias) for _, bias in net.layers[:-1]]
    shape: dict[str, Any] = {"net_arch": hidden}
    if net.memory is not None:
        shape["lstm_hidden_size"] = net.memory.size
    lacks = _lacks(agent, policy, hidden)
    if lacks:
        raise ConfigError(
            f"agent {agent.name} cannot go on from the policy {settings.policy}, which {lacks}",
            f"agent={policy.about.get('agent', 'ppo')} has learned it; or learn without policy=",
        )
    own = {name: value for name, value in shape.items() if hasattr(agent, name)}
    env = replace(interface, reward=settings.env.reward, fork=settings.env.fork)
    return replace(settings, env=env, agent=replace(agent, **own))


def _lacks(agent: AgentSettings, policy: MixPolicy, hidden: list[int]) -> str:
    """Return what of a policy's net an agent has not, if anything."""
    deep = AGENTS.info(agent.name).net is actor_critic
    net, remembers = policy.net, hasattr(agent, "lstm_hidden_size")
    if policy.recurrent != remembers:
        return "remembers the episode" if policy.recurrent else "does not remember the episode"
    if deep != bool(hidden):
        return f"has {len(hidden)} hidden layers"
    if deep and net.activation != "tanh":
        return f"has {net.activation} between its layers"
    if net.output == "tanh":
        return "squashes its actions"
    return ""
