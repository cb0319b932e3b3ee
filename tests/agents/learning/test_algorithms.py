"""Every registered agent: what it is told, what it refuses, what it leaves."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.testing import assert_allclose, assert_array_equal
from stable_baselines3.common.base_class import BaseAlgorithm

from automix.agents.config.compose import load_settings
from automix.agents.config.settings import RunSettings
from automix.agents.jobs.check import check
from automix.agents.learning.algorithms import AGENTS, check_agent, updates_of
from automix.agents.learning.algorithms.ars import GroupARS
from automix.agents.learning.algorithms.dqn import DQNSettings
from automix.agents.learning.export import policy_of
from automix.agents.learning.training import Learned, Learning, learn
from automix.agents.parallel.worker import InlineWorker
from automix.agents.runs.rundir import RunDirectory
from automix.core.errors import ConfigError
from automix.core.seeding import borrowed_global_rng
from automix.policy.formats import TorchPolicy
from automix.policy.policy import MixPolicy, load_policy, save_policy
from tests.agents import surrogate_runs, tiny_run
from tests.cases import each, named
from tests.envs import worlds

every_agent = each("name", list(AGENTS))
EVERY_PAIR = [(name, space) for name in AGENTS for space in AGENTS.info(name).spaces]


def test_the_ten_agents_are_there():
    assert list(AGENTS) == sorted(
        ["ppo", "a2c", "recurrent_ppo", "maskable_ppo", "dqn", "qr_dqn", "sac", "td3", "tqc", "ars"]
    )


# Told -------------------------------------------------------------------------------------------


@every_agent
def test_the_word_agent_brings_settings_and_a_space_that_fit(name):
    settings = load_settings([f"agent={name}"])
    assert settings.agent.name == name
    check_agent(settings.agent, settings.env.actions.space)
    assert updates_of(settings.agent, settings.trainer.epochs) >= 20


@each("name, space", EVERY_PAIR)
def test_a_setting_that_the_agent_uses_reaches_it(name, space):
    """Each one but those of the rounds changes what is built or what is refused."""
    uses = AGENTS.info(name).uses
    assert len(set(uses)) == len(uses)
    env = worlds.settings(space)
    settings = surrogate_runs.settings_of(name, *surrogate_runs.tiny_words(name))
    with borrowed_global_rng(0):
        agent = surrogate_runs.built(replace(settings, env=env), 4, 0)
    for key in set(uses) - {"net_arch", "lstm_hidden_size", "n_quantiles", "action_noise"}:
        value, got = getattr(settings.agent, key), getattr(agent, key, None)
        if key in ("clip_range", "delta_std"):
            got = getattr(agent, {"delta_std": "delta_std_schedule"}.get(key, key))(1.0)
        if key == "buffer_size":
            got = agent.replay_buffer.buffer_size * agent.n_envs
        if key == "train_freq":
            got = got.frequency
        if key == "target_update_interval":
            value = max(value, agent.n_envs)
        if key == "n_top":
            value = min(value, agent.n_delta)
        assert got == value, key


# Refused ----------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused_before_anything_is_written():
    for words, told, hint in (
        (
            "dqn env.actions.space=factored",
            "dqn needs env.actions.space=flat, got factored",
            "Flat",
        ),
        ("sac env.actions.space=flat", "sac needs env.actions.space=box, got flat", "Box"),
        (
            "maskable_ppo env.actions.space=box",
            "maskable_ppo needs env.actions.space=flat or factored, got box",
            "env.actions.space=flat",
        ),
        (
            "dqn agent.total_timesteps=2560 agent.learning_starts=3000",
            "total_timesteps is 2560, but learning starts after 3000 .*8 groups x 8",
            "total_timesteps=3840",
        ),
        (
            "dqn agent.total_timesteps=9 trainer.epochs=20",
            "total_timesteps is 9, below one update of 1280",
            "total_timesteps=2560",
        ),
    ):
        settings = load_settings(f"agent={words} device=cpu".split())
        with pytest.raises(ConfigError, match=f"agent[ .]{told}") as error:
            check(settings, learns=True)
        assert re.search(hint, error.value.hint), error.value.hint


def test_the_smallest_useful_number_is_enough():
    settings = DQNSettings(total_timesteps=3840, learning_starts=3000)
    assert updates_of(settings, 20) == 3
    assert updates_of(replace(settings, total_timesteps=1280, learning_starts=1279), 20) == 1


def test_candidates_come_in_pairs():
    settings = surrogate_runs.settings_of("ars", "agent.group_size=3", "agent.groups=2")
    with pytest.raises(ConfigError, match=r"group_size is 3, .* pairs") as error:
        surrogate_runs.built(settings, 4, 0)
    assert "agent.group_size=4" in error.value.hint


# Learning ---------------------------------------------------------------------------------------


def learned(name: str, path: Path, *words: str) -> tuple[Learned, RunSettings]:
    """Learn on the tiny run's images for two updates."""
    family = [word for word in tiny_run.WORDS if not word.startswith(("agent.", "env."))]
    words = (*family, f"agent={name}", *surrogate_runs.tiny_words(name), *words)
    settings = load_settings([*words, "agent.total_timesteps=16"])
    directory = RunDirectory.create(path, settings, False)
    return learn(settings, [InlineWorker()], "cpu", directory), settings


@every_agent
def test_a_tiny_training_is_recorded_round_by_round_and_exported(tmp_path, name):
    made, settings = learned(name, tmp_path / "run")
    assert (made.updates, made.episodes, made.classifier_epochs) == (2, 8, 16)
    assert made.agent.num_timesteps == 16
    records = tiny_run.lines(tmp_path / "run" / "metrics.jsonl")
    assert [(r["update"], r["episodes"], r["timesteps"]) for r in records] == [
        (1, 4, 8),
        (2, 8, 16),
    ]
    for record in records:
        assert sum(kind["episodes"] for kind in record["by_kind"].values()) == 4
        assert all(np.isfinite(v) for v in record["agent"].values() if v is not None)
    assert ("entropy" in records[-1]["agent"]) == (
        "ent_coef" in AGENTS.info(name).uses and name not in ("sac", "tqc")
    )
    save_policy(tmp_path / "export", policy_of(made, settings))
    policy = load_policy(tmp_path / "export")
    assert policy.player().action(np.zeros(sum(policy.form.observation_sizes))) is not None


def test_an_agent_that_diverges_is_told_at_once_with_its_rates(tmp_path):
    """Whether torch meets what is not finite, the environment does, or nothing does."""
    for name in AGENTS:
        settings = surrogate_runs.settings_of(name, *surrogate_runs.tiny_words(name))
        object.__setattr__(settings.agent, "learning_rate", 1e30)  # beyond what is accepted
        env = surrogate_runs.environments(settings, settings.trainer.epochs, 0)
        learning = Learning(settings, env, RunDirectory.create(tmp_path / name, settings, False))
        with pytest.raises(ConfigError, match=rf"^agent {name} has diverged after update") as error:
            learning.run()
        assert "agent.learning_rate=1e+30" in error.value.message
        assert "\n" not in error.value.message
        assert learning.updates_done <= 2, name


def test_the_candidates_of_a_group_play_side_by_side():
    """The return of each is the mean over groups of what its member earned, and nothing else."""
    settings = surrogate_runs.settings_of("ars", "agent.groups=3", "agent.group_size=4")
    with borrowed_global_rng(0):
        agent = surrogate_runs.built(settings, 4, 0)
        assert isinstance(agent, GroupARS)
        _, callback = agent._setup_learn(1000)
        # The bias of one choice decides alone: candidate c always plays choice c.
        weights = torch.zeros(4, agent.n_params)
        for candidate in range(4):
            agent.policy.action_net[0].bias.data = torch.eye(agent.action_space.n)[candidate]
            weights[candidate] = torch.nn.utils.parameters_to_vector(
                agent.policy.parameters()
            ).detach()
        returns = agent.evaluate_candidates(weights, callback, None)
    assert agent.num_timesteps == 3 * 4 * 4
    assert float(returns.sum()) == pytest.approx(0, abs=1e-5), "relative to the group"
    assert len({round(float(value), 4) for value in returns}) == 4


# Exported ---------------------------------------------------------------------------------------


def exported(name: str, space: str = "", std: float = 0.0) -> tuple[BaseAlgorithm, MixPolicy]:
    """Return an agent that has learned nothing, of given weights if asked, and its policy."""
    settings = surrogate_runs.settings_of(name, *surrogate_runs.tiny_words(name))
    if space:
        settings = replace(settings, env=worlds.settings(space))
    with borrowed_global_rng(3):
        agent = surrogate_runs.built(settings, 4, 3)
        for parameter in agent.policy.parameters() if std else ():
            torch.nn.init.normal_(parameter, std=std)
    return agent, policy_of(Learned(agent, 1, 4, 16, 2000, 1.0), settings)


@each("name, space", EVERY_PAIR)
def test_an_exported_policy_answers_as_the_agent_does(tmp_path, name, space):
    # Large weights, so that it does not always play the same, but not only borders of the box.
    agent, exports = exported(name, space, std=0.2 if space == "box" else 1.0)
    save_policy(tmp_path, exports)
    policy = load_policy(tmp_path)
    space_of = agent.observation_space
    space_of.seed(0)
    observations = np.stack([space_of.sample() for _ in range(3 * 60)]).reshape(3, 60, -1)
    wanted_state = state = None
    player, seen, in_torch = policy.player(), [], TorchPolicy(policy)
    numbers = [torch.zeros(1, 60, in_torch.width)] * 2 * policy.recurrent
    for step, rows in enumerate(observations):
        starts = np.full(60, step == 0)
        wanted, wanted_state = agent.predict(rows, wanted_state, starts, deterministic=True)
        got, state = policy.predict(rows, state, starts)
        if space == "box":
            assert_allclose(got, wanted, atol=1e-5)
        else:
            assert_array_equal(got, wanted)
        actions, _, *numbers = in_torch(torch.from_numpy(rows), *numbers)
        assert_allclose(actions.numpy(), wanted, atol=1e-5 * (space == "box"))
        assert player.action(rows[0]) == policy.mix_of(wanted[0])
        seen += [tuple(np.ravel(sample)) for sample in wanted]
    assert len(set(seen)) > 5, "an agent that always plays the same shows nothing"
    assert isinstance(agent.action_space, spaces.Box) == (space == "box")


def test_in_torch_what_an_agent_computes_without_memory_or_scaling_is_the_same_to_the_bit():
    for name in ("ppo", "a2c", "dqn", "ars"):
        agent, policy = exported(name, "flat", std=1.0)
        net = agent.policy
        width = sum(policy.form.observation_sizes)
        seen = 0.5 * torch.rand(60, width, generator=torch.manual_seed(0))
        with torch.no_grad(), named(name):
            if name == "dqn":
                wanted = net.q_net(seen)
            elif name == "ars":
                wanted = net.action_net(seen)
            else:
                wanted = net.action_net(net.mlp_extractor.policy_net(seen))
            assert torch.equal(TorchPolicy(policy)(seen)[1], wanted)


@every_agent
def test_an_export_takes_the_scaling_of_observations_in(tmp_path, name):
    made, settings = learned(name, tmp_path, "agent.normalise=true")
    scaling = made.agent.get_vec_normalize_env()
    assert scaling is not None
    assert np.abs(scaling.obs_rms.mean).max() > 0.1
    made.agent.observation_space.seed(1)
    rows = np.stack([made.agent.observation_space.sample() for _ in range(200)])
    starts = np.ones(len(rows), dtype=bool)
    wanted, _ = made.agent.predict(scaling.normalize_obs(rows), None, starts, deterministic=True)
    got, _ = policy_of(made, settings).predict(rows, None, starts)
    # A choice that is nearly a tie may fall otherwise.
    same = np.isclose(got, wanted, atol=1e-3).reshape(len(rows), -1).all(1)
    assert same.mean() > 0.98
    assert len(np.unique(np.round(wanted, 3), axis=0)) > 1


def test_what_a_recurrent_policy_has_seen_changes_what_it_answers():
    _, policy = exported("recurrent_ppo", std=1.0)
    rows = 0.5 * np.random.default_rng(0).random((50, sum(policy.form.observation_sizes)))
    fresh, state = policy.predict(rows)
    later, _ = policy.predict(rows, state)
    again, _ = policy.predict(rows, state, np.ones(50, dtype=bool))
    assert (fresh != later).any()
    assert_array_equal(fresh, again)
    with pytest.raises(ValueError, match="player"):
        policy.action(rows[0])


def test_values_and_numbers_cannot_be_drawn_from():
    _, policy = exported("dqn")
    rows = np.zeros((2, sum(policy.form.observation_sizes)))
    with pytest.raises(ValueError, match="no probabilities"):
        policy.predict(rows, deterministic=False, rng=np.random.default_rng(0))


def test_the_record_of_a_policy_says_what_its_numbers_are(tmp_path):
    told = {}
    for name in ("ppo", "dqn", "sac", "recurrent_ppo"):
        save_policy(tmp_path / name, exported(name)[1])
        content = json.loads((tmp_path / name / "policy.json").read_text(encoding="utf-8"))
        told[name] = content["activation"], content["output"], content["recurrent"]
    assert told == {
        "ppo": ("tanh", "logits", False),
        "dqn": ("relu", "values", False),
        "sac": ("relu", "tanh", False),
        "recurrent_ppo": ("tanh", "logits", True),
    }
    agent, policy = exported("ppo", "flat")
    save_policy(tmp_path / "guided", policy)
    form = json.loads((tmp_path / "guided" / "policy.json").read_text(encoding="utf-8"))["form"]
    assert form["observations"][0] == "progress"
    assert sum(form["observation_sizes"]) == agent.observation_space.shape[0]
    assert form["saliency"] == ["off", "gradient", "spectral"]
    assert len(form["choices"]) == 28
