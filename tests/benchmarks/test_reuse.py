"""Logged trainings and the model that is fitted to them, on trainings in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from stable_baselines3.common.logger import Logger

from automix.core.seeding import borrowed_global_rng
from automix.envs import ActionSettings
from benchmarks import reuse
from benchmarks.reuse import Desk, Imagined, Log, fitted
from tests.agents import surrogate_runs

BUDGET, MEMBERS = 5, 8
WORDS = ("agent.group_size=8", f"trainer.epochs={BUDGET}", "env.reward.name=final_accuracy")
MENU = ActionSettings(methods=("none", "cutmix"), ratios=(0.25, 0.5), space="flat")


@pytest.fixture
def settings():
    return surrogate_runs.settings_of("ppo", *WORDS, actions=MENU)


@pytest.fixture
def desk(settings):
    """Where an agent learns from closed-form trainings, two rounds of them logged, at random."""
    with borrowed_global_rng(0):
        env = surrogate_runs.environments(settings, BUDGET, seed=0)
        made = Desk(settings, env, Logger(folder=None, output_formats=[]))
        made.draw(2)
        yield made


def test_the_log_has_each_step_and_what_was_seen_next(desk):
    log = desk.env.log
    assert log.seen.shape[:3] == log.played.shape == log.rewards.shape == (10, 8, MEMBERS)
    assert np.flatnonzero(log.ends).tolist() == [4, 9]
    assert log.steps == BUDGET
    inside = ~log.ends[:-1]
    np.testing.assert_array_equal(log.then[:-1][inside], log.seen[1:][inside])
    # Progress, which comes first: a last step shows the end of its episode, not the next start.
    assert (log.then[log.ends][..., 0] == 1).all()
    assert (log.seen[::BUDGET][..., 0] == 0).all()


def test_the_model_finds_a_rule_that_the_log_was_made_by():
    """Two numbers are seen; action a moves the first by a and earns a, whatever was before."""
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(40, 4, 6, 2)).astype(np.float32)
    played = rng.integers(3, size=seen.shape[:3])
    then = seen + np.stack([played, 0 * played], -1).astype(np.float32)
    hard = rng.normal(size=(40, 4, 1))  # how a task is: nothing that an action did
    log = Log(seen, played, then, played + hard, np.arange(40) % 2 == 1)
    with borrowed_global_rng(0):
        model = fitted(log, 3, rng, steps=150)
    nets = model.expects.nets
    asked = torch.zeros(nets, 3, 2), torch.arange(3).expand(nets, 3)
    observations, earned = model.expects(*asked)
    expected = torch.tensor([[0.0, 0], [1, 0], [2, 0]])
    torch.testing.assert_close(observations.mean(0), expected, atol=0.15, rtol=0)
    gained = (earned - earned[:, :1]).mean(0)
    torch.testing.assert_close(gained, torch.arange(3.0), atol=0.15, rtol=0)
    assert model.residuals.shape == (2, 20 * 4 * 6, 2)
    assert np.abs(model.residuals).mean() < 0.1


def test_members_share_their_start_and_earn_at_the_end_what_they_did_better(desk):
    with borrowed_global_rng(0):
        model = fitted(desk.env.log, 3, np.random.default_rng(0), steps=5)
    env = Imagined(desk.env, MEMBERS, model, np.random.default_rng(0))
    starts = env.reset().reshape(8, MEMBERS, -1)
    assert (starts == starts[:, :1]).all()
    for step in range(BUDGET):
        shown, rewards, dones, infos = env.step(np.arange(64) % 3)
        assert dones.all() == dones.any() == (step == BUDGET - 1)
        assert env.observation_space.contains(shown[0])
        assert (rewards != 0).any() == dones.all()
    np.testing.assert_allclose(rewards.reshape(8, MEMBERS).sum(1), 0, atol=1e-4)
    assert "terminal_observation" in infos[0]
    np.testing.assert_array_equal(shown[0], shown[MEMBERS - 1])


@pytest.mark.parametrize("row", reuse.ROWS)
def test_every_row_costs_equally_many_trainings(row):
    settings = reuse.settings_of(row, 0, [])
    agent, env = settings.agent, settings.env
    hidden = env.reward.baseline == "reference"
    rounds = agent.total_timesteps / (agent.groups * agent.group_size * env.steps(20))
    assert rounds == reuse.ROUNDS
    assert agent.groups * (agent.group_size + hidden) == 128
    if agent.name == "qr_dqn":
        assert agent.learning_starts == rounds / 3 * agent.groups * agent.group_size * env.steps(20)
