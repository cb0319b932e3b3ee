"""Agents of ``configs/agent`` on the surrogate, whose optimum is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.base_class import BaseAlgorithm

from automix.agents.config.compose import load_settings
from automix.agents.config.settings import RunSettings
from automix.agents.learning.algorithms import AGENTS, check_agent
from automix.agents.parallel.worker import InlineWorker
from automix.agents.vec_env.group_vec_env import GroupVecEnv
from automix.core.seeding import borrowed_global_rng
from automix.data.tasks import TaskSpec
from automix.envs import (
    ActionSettings,
    RewardSettings,
    StackedGroups,
    SurrogateVectorEnv,
    SurrogateWorld,
)

TINY = ("agent.groups=2", "agent.group_size=2", "agent.net_arch=[8]", "agent.batch_size=8")
"""For agents that are built but hardly learn; those without a net or batches leave words out."""


def settings_of(name: str, *words: str, actions: ActionSettings | None = None) -> RunSettings:
    """Return what ``agent=<name>`` composes, with the whole default menu unless told otherwise."""
    settings = load_settings([f"agent={name}", *words])
    space = settings.env.actions.space
    env = replace(settings.env, actions=replace(actions or ActionSettings(), space=space))
    return replace(settings, env=env)


def tiny_words(name: str) -> list[str]:
    """Return the words of ``TINY`` that an agent uses, and no wait before it learns."""
    uses: Any = AGENTS.info(name).uses
    words = [word for word in TINY if "group" in word or word[6:].partition("=")[0] in uses]
    return words + ["agent.learning_starts=4"] * ("learning_starts" in uses)


def environments(settings: RunSettings, budget: int, seed: int) -> GroupVecEnv:
    """Return all trainings of a round, in this process."""
    size, env = settings.agent.group_size, settings.env
    make_block = partial(SurrogateVectorEnv, size, budget, env, 1, AutoresetMode.DISABLED)
    return GroupVecEnv(make_block, settings.agent.groups, [InlineWorker()], seed)


def built(settings: RunSettings, budget: int, seed: int) -> BaseAlgorithm:
    """Return the agent before it has learned; call it inside ``borrowed_global_rng``."""
    check_agent(settings.agent, settings.env.actions.space)
    env = environments(settings, budget, seed)
    return AGENTS[settings.agent.name](settings.agent, env, budget, seed)


def learned(settings: RunSettings, budget: int, rounds: int, seed: int) -> BaseAlgorithm:
    """Return the agent after some rounds of whole episodes."""
    with borrowed_global_rng(seed):
        agent = built(settings, budget, seed)
        agent.learn(rounds * settings.agent.groups * settings.agent.group_size * budget)
    return agent


def value_of(agent: BaseAlgorithm, settings: RunSettings, budget: int) -> float:
    """Return the mean accuracy gained in a deterministic episode of each noise level."""
    world = SurrogateWorld(budget)
    env = replace(settings.env, reward=RewardSettings(scale=1.0))
    gained = [
        _episode(agent, StackedGroups(world, env, 1), noise, budget) for noise in world.label_noise
    ]
    return float(np.mean([sum(episode) for episode in gained]))


def _episode(
    agent: BaseAlgorithm, groups: StackedGroups, noise: float, budget: int
) -> Sequence[float]:
    observations = groups.reset([TaskSpec(train_size=200, label_noise=noise, seed=0)], [0])
    state, rewards = None, []
    for epoch in range(budget):
        start = np.array([epoch == 0])
        action, state = agent.predict(observations, state, start, deterministic=True)
        (turn,) = groups.step([groups.groups[0].codec.decode(action[0])])
        observations = turn.observations
        rewards.append(float(turn.rewards[0]))
    return rewards
