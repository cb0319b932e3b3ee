"""An agent learns the game whose optimum is known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from automix.envs import ActionCodec, ActionSettings, SurrogateWorld
from tests.agents import surrogate_runs

BUDGET, ROUNDS = 10, 25
WORLD = SurrogateWorld(BUDGET)
MENU = ActionCodec(ActionSettings()).choices
BEST_CONSTANT = max(WORLD.value(action) for action in MENU)
HALF_WAY = (BEST_CONSTANT + WORLD.optimum(MENU)) / 2
"""From the best constant choice (0.49) to the optimum (0.8)."""
MEASURED = [*(("a2c", 60, seed) for seed in (0, 1)), *(("ars", 60, seed) for seed in range(3))]


@pytest.mark.learning
@pytest.mark.parametrize(("space", "seed"), [("factored", 0), ("factored", 1), ("flat", 2)])
def test_ppo_gets_more_than_half_way_from_the_best_constant_to_the_optimum(space, seed):
    settings = surrogate_runs.settings_of("ppo")
    actions = replace(settings.env.actions, space=space)
    settings = replace(settings, env=replace(settings.env, actions=actions))
    agent = surrogate_runs.learned(settings, BUDGET, ROUNDS, seed)
    assert surrogate_runs.value_of(agent, settings, BUDGET) > HALF_WAY


@pytest.mark.learning
@pytest.mark.slow
@pytest.mark.parametrize("seed", [0])
@pytest.mark.parametrize("name", ["dqn", "maskable_ppo", "qr_dqn", "recurrent_ppo", "sac", "tqc"])
def test_most_others_get_there_too(name, seed):
    settings = surrogate_runs.settings_of(name)
    agent = surrogate_runs.learned(settings, BUDGET, ROUNDS, seed)
    assert surrogate_runs.value_of(agent, settings, BUDGET) > HALF_WAY


@pytest.mark.learning
@pytest.mark.slow
@pytest.mark.parametrize(("name", "rounds", "seed"), [("td3", 25, 0), *MEASURED])
def test_slower_agents_pass_the_best_constant(name, rounds, seed):
    settings = surrogate_runs.settings_of(name)
    agent = surrogate_runs.learned(settings, BUDGET, rounds, seed)
    assert surrogate_runs.value_of(agent, settings, BUDGET) > BEST_CONSTANT + 0.02
