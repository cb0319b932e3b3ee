"""What leaves the run: the agent's own answers, without the agent."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from numpy.testing import assert_allclose

from automix.agents.config.settings import RunSettings
from automix.agents.contest.summary import schedule_of
from automix.agents.learning.algorithms import AGENTS
from automix.agents.learning.export import copy_export, learning_cost, policy_of
from automix.agents.learning.training import Learned
from automix.agents.parallel.worker import InlineWorker
from automix.agents.vec_env.group_vec_env import GroupVecEnv
from automix.core.errors import DataError, ResourceError
from automix.core.seeding import borrowed_global_rng
from automix.envs import SurrogateVectorEnv
from automix.mixing.actions import MixAction
from tests.agents import tiny_run
from tests.cases import each
from tests.envs import worlds

FILES = ["policy.json", "policy.safetensors", "schedule.yaml"]


def learned(name: str, space: str) -> tuple[Learned, RunSettings]:
    """An agent whose random weights are large, so that it does not always play the same."""
    settings = replace(tiny_run.settings(), env=worlds.settings(space))
    make_block = partial(SurrogateVectorEnv, 2, 4, settings.env, 1, AutoresetMode.DISABLED)
    env = GroupVecEnv(make_block, 2, [InlineWorker()], 0)
    with borrowed_global_rng(3):
        agent = AGENTS[name](settings.agent, env, 4, 3)
        for parameter in agent.policy.parameters():
            torch.nn.init.normal_(parameter)
    return Learned(agent, 1, 4, 16, 2000, 1.0), settings


@each("space", worlds.SPACES)
def test_drawn_actions_are_as_likely_as_the_agents(tmp_path, space):
    made, settings = learned("ppo", space)
    policy, agent = policy_of(made, settings), made.agent
    observation = np.zeros(agent.observation_space.shape, dtype=np.float32)
    drawn = policy.predict(
        np.tile(observation, (4000, 1)), deterministic=False, rng=np.random.default_rng(0)
    )[0]
    law = agent.policy.get_distribution(torch.from_numpy(observation)[None]).distribution
    first = law if space == "flat" else law[0]
    probabilities = first.probs[0].detach().numpy()
    column = drawn if space == "flat" else drawn[:, 0]
    got = np.bincount(column, minlength=len(probabilities)) / len(column)
    assert_allclose(got, probabilities, atol=0.03)


def test_the_schedule_is_the_most_frequent_choice_of_each_epoch():
    plays = {
        "easy": [["none", "cutmix@0.5"], ["none", "cutmix@0.5"], ["mixup@0.1", "none"]],
        "hard": [["rmix@0.5", "none"], ["rmix@0.5", "none"], ["none", "none"]],
    }
    trials = [
        {"contestant": "agent", "kind": "agent", "task": task, "mixes": mixes}
        for task, rows in plays.items()
        for mixes in rows
    ]
    others = [{"contestant": "x", "kind": "fixed", "task": "easy", "mixes": ["mixup@0.5"] * 2}] * 9
    schedule = schedule_of([*others, *trials])
    assert [str(action) for action in schedule.actions] == ["none", "none"]
    assert [str(action) for action in schedule.by_kind["easy"]] == ["none", "cutmix@0.5"]
    assert schedule.by_kind["hard"] == [MixAction("rmix", 0.5), MixAction("none", 0.0)]


# Taking it home ---------------------------------------------------------------------------------


@each("source", ["", "export"])
def test_an_export_is_copied_from_the_run_or_from_its_folder(run, tmp_path, source):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "schedule.yaml").write_text("of an older one", encoding="utf-8")
    written = copy_export(run / source, tmp_path / "a" / "b")
    everything = sorted([*FILES, "rule.json", "rule.txt"])
    assert sorted(path.name for path in written) == everything
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == everything
    for path in written:
        assert path.read_bytes() == (run / "export" / path.name).read_bytes()
    copy_export(tmp_path / "a" / "b", tmp_path / "a" / "b")  # onto itself, it stays whole
    for path in written:
        assert path.read_bytes() == (run / "export" / path.name).read_bytes()


@each("name", FILES)
def test_a_damaged_or_incomplete_export_is_refused_and_nothing_is_written(run, tmp_path, name):
    damaged = Path(shutil.copytree(run / "export", tmp_path / "damaged"))
    path = damaged / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    for _ in range(2):
        with pytest.raises(DataError, match=name):
            copy_export(damaged, tmp_path / "out")
        path.unlink(missing_ok=True)
    assert not (tmp_path / "out").exists()


def test_a_folder_without_an_export_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no exported policy") as error:
        copy_export(tmp_path / "nowhere", tmp_path / "out")
    assert "train" in error.value.hint


@each(
    "about, cost",
    [
        ({"learning": {"classifier_epochs": 16, "passes": 2000}}, (16, 2000)),
        ({}, (0, 0)),
        ({"learning": None}, (0, 0)),
        ({"learning": {"classifier_epochs": "many", "passes": [1]}}, (0, 0)),
    ],
)
def test_a_policy_tells_what_it_cost_to_learn(about, cost):
    made, settings = learned("ppo", "flat")
    policy = policy_of(made, settings)
    assert learning_cost(policy) == (16, 2000)
    policy.about = about
    assert learning_cost(policy) == cost
    assert learning_cost(None) == (0, 0)


def test_a_place_that_cannot_be_written_to_is_a_matter_of_the_machine(run, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ResourceError, match=r"file/out.* cannot be written"):
        copy_export(run, tmp_path / "file" / "out")
