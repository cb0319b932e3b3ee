"""An agent learns the game whose optimum is known."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.learners import AGENTS
from agents.settings import AgentSettings
from agents.vec_env import GroupVecEnv
from agents.workers import InlineWorker
from automix.data.tasks import TaskSpec
from automix.seeding import borrowed_global_rng
from envs import (
    ActionCodec,
    ActionSettings,
    EnvSettings,
    Game,
    RewardSettings,
    SurrogateVectorEnv,
    SurrogateWorld,
)

BUDGET, UPDATES = 10, 25
WORLD = SurrogateWorld(BUDGET)


def learned(name: str, space: str, seed: int) -> BaseAlgorithm:
    settings = EnvSettings(
        actions=ActionSettings(space=space), reward=RewardSettings(baseline="group")
    )
    make_block = partial(SurrogateVectorEnv, 8, BUDGET, settings, 1, AutoresetMode.DISABLED)
    env = GroupVecEnv(make_block, 8, [InlineWorker()], seed)
    with borrowed_global_rng(seed):
        agent = AGENTS[name](AgentSettings(), env, BUDGET, seed)
        agent.learn(UPDATES * env.num_envs * BUDGET)
    return agent


def value_of(agent: BaseAlgorithm, space: str) -> float:
    """Mean accuracy gained in a deterministic episode of each noise level."""
    settings = EnvSettings(actions=ActionSettings(space=space), reward=RewardSettings(scale=1.0))
    gained = []
    for noise in WORLD.label_noise:
        game = Game(WORLD, settings, 1)
        observations = game.reset(TaskSpec(train_size=200, label_noise=noise, seed=0), 0)
        for _ in range(BUDGET):
            action, _ = agent.predict(observations[0], deterministic=True)
            turn = game.play([game.codec.decode(action)])
            observations = turn.observations
            gained.append(float(turn.rewards[0]))
    return float(np.sum(gained)) / len(WORLD.label_noise)


@pytest.mark.learning
@pytest.mark.parametrize("name", list(AGENTS))
@pytest.mark.parametrize(("space", "seed"), [("factored", 0), ("factored", 1), ("flat", 2)])
def test_an_agent_passes_the_best_constant_choice(name, space, seed):
    menu = ActionCodec(ActionSettings(space=space)).choices
    best_constant = max(WORLD.value(action) for action in menu)
    value = value_of(learned(name, space, seed), space)
    # More than half of the way from the best constant (0.49) to the optimum (0.8).
    assert value > (best_constant + WORLD.optimum(menu)) / 2
