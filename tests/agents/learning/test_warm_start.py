"""Learning that goes on from a policy begins as the policy, and can be interrupted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from automix.agents.config.settings import RunSettings
from automix.agents.contest.compare import env_of
from automix.agents.jobs.check import going_on
from automix.agents.jobs.run import resume, run_train
from automix.agents.learning.export import policy_of
from automix.agents.learning.training import Learning
from automix.agents.learning.warm_start import going_on_from
from automix.agents.runs.rundir import RunDirectory
from automix.core.errors import ConfigError
from automix.core.seeding import borrowed_global_rng
from automix.policy.policy import MixPolicy, load_policy, save_policy
from tests.agents import surrogate_runs, tiny_run
from tests.cases import each
from tests.faults.killing import results_of

BUDGET = 4


def settings_of(name: str, *words: str) -> RunSettings:
    return surrogate_runs.settings_of(
        name, *surrogate_runs.tiny_words(name), f"trainer.epochs={BUDGET}", *words
    )


def learning_of(settings: RunSettings, folder: Path) -> Learning:
    folder.mkdir()
    env = surrogate_runs.environments(settings, BUDGET, 7)
    return Learning(settings, env, RunDirectory(folder))


def policy_in(folder: Path, name: str, *words: str) -> MixPolicy:
    """Write the policy of an agent whose weights are large, so that it plays this and that."""
    settings = settings_of(name, *words)
    learning = learning_of(settings, folder)
    with borrowed_global_rng(1):
        for parameter in learning.agent.policy.parameters():
            parameter.data.normal_()
    policy = policy_of(learning.learned(), settings)
    save_policy(folder / "export", policy)
    return policy


@each(
    "name, words",
    [
        ("ppo", ()),
        ("ppo", ("env.actions.space=factored", "agent.net_arch=[5,6]")),
        ("ppo", ("env.actions.space=box",)),
        ("ppo", ("agent.normalise=true",)),
        ("a2c", ("env.decisions=2",)),
        ("maskable_ppo", ()),
        ("recurrent_ppo", ("agent.lstm_hidden_size=5",)),
        ("ars", ()),
        ("ars", ("env.actions.space=box",)),
    ],
)
def test_before_the_first_update_the_agent_acts_as_the_policy(tmp_path, name, words):
    policy = policy_in(tmp_path / "first", name, *words)
    scaled = [word for word in words if "normalise" in word]
    given = settings_of(name, *scaled, f"policy={tmp_path / 'first'}")
    settings = going_on_from(policy, env_of(policy, given), given)
    assert settings.env.decisions == policy.form.decisions
    agent = learning_of(settings, tmp_path / "second").agent
    space = agent.observation_space
    rows = np.random.default_rng(0).uniform(space.low, space.high, (200, *space.shape))
    rows = rows.astype(np.float32)
    scaling = agent.get_vec_normalize_env()
    starts = np.ones(len(rows), dtype=bool)
    ours, state = agent.predict(
        scaling.normalize_obs(rows) if scaling else rows, None, starts, deterministic=True
    )
    theirs, kept = policy.predict(rows, None, starts)
    assert len(np.unique(theirs, axis=0)) > 3
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    if policy.recurrent:
        np.testing.assert_allclose(state[0], kept[0], atol=1e-5)


def test_an_agent_that_cannot_go_on_is_refused(tmp_path):
    made = {
        name: policy_in(tmp_path / name, name) for name in ("ppo", "ars", "dqn", "recurrent_ppo")
    }
    for agent, of, says in (
        ("dqn", "ppo", "agent dqn cannot go on from a policy"),
        ("ppo", "ars", "has 0 hidden layers"),
        ("ars", "ppo", "has 1 hidden layers"),
        ("ppo", "dqn", "has relu between its layers"),
        ("ppo", "recurrent_ppo", "remembers the episode"),
        ("recurrent_ppo", "ppo", "does not remember the episode"),
    ):
        settings = replace(settings_of(agent), policy=of)
        with pytest.raises(ConfigError, match=says):
            going_on_from(made[of], env_of(made[of], settings), settings)
    boxed = policy_in(tmp_path / "box", "ppo", "env.actions.space=box")
    with pytest.raises(ConfigError, match="maskable_ppo needs env"):
        going_on_from(boxed, env_of(boxed, settings_of("ppo")), settings_of("maskable_ppo"))


def test_a_net_of_another_shape_is_refused_with_both(tmp_path):
    policy_in(tmp_path / "first", "ppo")
    with pytest.raises(ConfigError, match=r"-> 8 -> \d+, those of the agent \d+ -> 9 -> "):
        learning_of(
            settings_of("ppo", "agent.net_arch=[9]", f"policy={tmp_path / 'first'}"),
            tmp_path / "second",
        )


def test_a_run_goes_on_from_a_policy_and_is_taken_up_without_it(run, tmp_path, monkeypatch):
    """Its own copy of the policy is enough, and what it comes to is the same."""
    words = ("agent.net_arch=[20]", "env.reward.name=final_accuracy", "checkpoint.share=1.0")
    given = tiny_run.settings(*words, f"policy={run}")
    assert going_on(given).agent.net_arch == [8]
    assert going_on(given).env.reward.name == "final_accuracy"
    run_train(given, tmp_path / "whole")
    copy = tmp_path / "first"
    save_policy(copy, load_policy(run))
    import automix.agents.learning.training as training

    monkeypatch.setattr(training.Learning, "_stepped", _interrupted_after(training.Learning, 3))
    with pytest.raises(KeyboardInterrupt):
        run_train(replace(given, policy=str(copy)), tmp_path / "parts")
    monkeypatch.undo()
    for file in copy.iterdir():
        file.unlink()
    resume(tmp_path / "parts")
    whole, parts = results_of(tmp_path / "whole"), results_of(tmp_path / "parts")
    assert whole == parts
    begun = load_policy(tmp_path / "whole").about
    assert begun["started_from"] == "ppo, digits, small_cnn_w8, 2 epochs"


def _interrupted_after(kind, steps):
    real, left = kind._stepped, [steps]

    def stepped(self):
        real(self)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    return stepped
