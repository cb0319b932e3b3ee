"""Rows 7, 8: trainings and agents that diverge, and rewards that are no numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from safetensors.numpy import load_file

from automix.agents.learning import sb3
from automix.envs import RewardSettings
from automix.envs.rewards import REWARDS
from tests.agents.tiny_run import lines
from tests.cli.conftest import cli  # noqa: F401 (a fixture)
from tests.faults.runs import WORDS, status

pytestmark = pytest.mark.fault


@pytest.mark.row(7)
def test_a_training_that_diverges_is_an_outcome(cli, tmp_path):  # noqa: F811
    outcome = cli("train", *WORDS, "trainer.lr=1e9", "--run-dir", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    records = lines(tmp_path / "run" / "metrics.jsonl")
    assert sum(record["diverged"] for record in records) > 0
    agent = load_file(tmp_path / "run" / "checkpoints" / "final" / "agent.safetensors")
    assert all(np.isfinite(tensor).all() for tensor in agent.values())


@pytest.mark.row(7)
def test_an_agent_that_diverges_ends_the_run_with_its_rates(cli, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(sb3, "LARGEST", 10.0)
    outcome = cli("train", *WORDS, "agent.learning_rate=1000", "--run-dir", tmp_path / "run")
    assert outcome.code == 2, outcome.err
    assert outcome.error.startswith("error: agent ppo has diverged after update 1: its weights are")
    assert "agent.learning_rate=1000" in outcome.error
    assert status(tmp_path / "run")["state"] == "failed"


@pytest.mark.row(8)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_reward_that_is_no_number_is_caught_at_its_step(cli, tmp_path, monkeypatch, value):  # noqa: F811
    monkeypatch.setattr(REWARDS, "_entries", dict(REWARDS._entries))
    calls = [0]

    @REWARDS.register("broken")
    def broken(before, after, finished, num_classes):
        """Break at the seventh training."""
        calls[0] += 1
        return value if calls[0] == 7 else 0.0

    words = ("env.reward.name=broken", "env.reward.baseline=none", "--run-dir", tmp_path / "run")
    outcome = cli("train", *WORDS, *words)
    assert outcome.code == 1
    assert outcome.error == "error: the reward of environment 2 at step 8 is not finite"
    assert status(tmp_path / "run")["state"] == "failed"
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    assert RewardSettings(name="broken").name == "broken"
