"""From words to trials: every combination once, named by what its numbers depend on."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

import automix.agents.sweep.plan as planning
from automix.agents.config.compose import choices_of, groups, load_settings
from automix.agents.config.settings import RunSettings
from automix.agents.sweep.plan import (
    at_once_here,
    check_trials,
    default_path,
    fit,
    hash_of,
    plan_of,
)
from automix.agents.sweep.settings import SweepSettings
from automix.core.errors import ConfigError, ResourceError


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("agent=ppo,a2c", ["ppo", "a2c"]),
        ("seed=range(0,3)", ["0", "1", "2"]),
        ("agent.gamma=choice(0.9,1.0)", ["0.9", "1.0"]),
        ("agent.net_arch=[8],[8,8]", ["[8]", "[8,8]"]),
        ("agent=glob(*ppo)", [name for name in groups()["agent"] if name.endswith("ppo")]),
        ("name='a,b'", ["'a,b'"]),
        ("agent.net_arch=[8,8]", ["[8,8]"]),
    ],
)
def test_a_word_offers_what_hydras_grammar_says(word, values):
    (choices,) = choices_of([word])
    key = word.partition("=")[0]
    assert choices.key == key
    assert choices.words == [f"{key}={value}" for value in values]
    assert choices.several == (len(values) > 1)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["seed=interval(0,1)"], "endlessly many"),
        (["seed=range(5,0)"], "offers no value"),
        (["agent=glob(x*)"], "offers no value"),
        (["seed=shuffle(range(0,3))"], "shuffle"),
        (["seed=1,,2"], "not an override"),
        (["seed=0,1", "agent.lrr=1,2"], "agent.lrr"),
        (["agent=ppo,a2d"], "Did you mean 'a2c'?"),
        (["agent.gamma=0.5,1.5", "seed=0,1"], "agent.gamma=1.5 seed=0: "),
        (["agent.gamma=0.5,abc"], "abc"),
        (["seed=0,1,0"], "are the same trial"),
        (["seed=0,1", "seed=2"], "seed is given twice"),
        (["seed=0,1", "workers=2"], "sweep.cpus_per_trial"),
        (["seed=0,1", "name=x"], "sweep.name"),
        (["seed=0,1", "threads=2"], "one thread each"),
        (["seed=0,1", "backend=ray"], "Ray's work"),
        (["seed=0,1", "device=cuda"], "a trial gets no GPU"),
        (["seed=0,1", "device=cpu", "sweep.gpus_per_trial=1"], "device=cpu"),
        (["seed=0,1", "sweep.nam=x"], "Did you mean 'name'?"),
        (["seed=0,1", "sweep.name=../x"], "one folder name"),
        (["seed=0,1", "sweep.name=a,b"], "several values"),
        (["seed=0,1", "sweep.max_retries=many"], "max_retries"),
        (["seed=0,1", "sweep.max_retries=-1"], "0 or more"),
        (["seed=0,1", "sweep.cpus_per_trial=0"], "1 or more"),
        (["seed=0,1", "sweep.gpus_per_trial=1.5"], "a share from 0 to 1 or a whole number"),
        (["seed=0,1", "sweep.metric=test_accuracy"], "wanted val_accuracy"),
        (["seed=0,1", "sweep.search=gird"], "Did you mean 'grid'?"),
        (["seed=0,1", "ray.adress=auto"], "Did you mean 'address'?"),
        (["seed=0,1", "ray.address=auto,x"], "several values"),
    ],
)
def test_words_that_cannot_be_used_are_named(words, told):
    with pytest.raises(ConfigError) as caught:
        plan_of(words)
    assert told in f"{caught.value.message} {caught.value.hint}"


def test_the_plan_has_every_combination_once_and_the_last_word_changes_fastest():
    words = ["agent.net_arch=[8]", "agent.gamma=0.9,1.0", "agent.n_epochs=1,2", "seed=range(0,3)"]
    plan = plan_of(words)
    assert plan.keys == ["agent.gamma", "agent.n_epochs", "seed"]
    assert [tuple(trial.values.values()) for trial in plan.trials] == list(
        itertools.product(["0.9", "1.0"], ["1", "2"], ["0", "1", "2"])
    )
    for trial in plan.trials:
        settings = trial.settings
        assert (settings.agent.gamma, settings.agent.n_epochs, settings.seed) == (
            float(trial.values["agent.gamma"]),
            int(trial.values["agent.n_epochs"]),
            int(trial.values["seed"]),
        )
        assert settings.agent.net_arch == (8,)
    assert len({trial.hash for trial in plan.trials}) == 12


def test_settings_are_those_that_the_words_of_a_trial_alone_make():
    for trial in plan_of(["agent=a2c,ppo", "agent.gamma=0.9", "seed=1,2"]).trials:
        alone = load_settings(trial.words)
        assert replace(alone, workers=1, device="cpu") == trial.settings


def test_a_group_brings_its_own_values():
    ppo, a2c = plan_of(["agent=ppo,a2c"]).trials
    assert (ppo.settings.agent.name, a2c.settings.agent.name) == ("ppo", "a2c")


def test_a_trial_works_as_a_task_can():
    (trial,) = plan_of(["sweep.cpus_per_trial=3", "ray.address=auto", "device=auto"]).trials
    settings = trial.settings
    assert (settings.workers, settings.threads, settings.backend) == (3, 1, "local")
    assert settings.device == "cpu"
    assert settings.ray.address == ""


def test_a_trial_with_a_gpu_is_fed_by_one_process():
    (trial,) = plan_of(["sweep.cpus_per_trial=3", "sweep.gpus_per_trial=0.5"]).trials
    assert (trial.settings.workers, trial.settings.device) == (1, "cuda")


def test_equal_settings_have_equal_hashes_whatever_the_words():
    (one,) = plan_of(["agent.learning_rate=1e-3", "seed=3"]).trials
    (same,) = plan_of(["seed=3", "agent.learning_rate=0.001", "sweep.cpus_per_trial=2"]).trials
    (other,) = plan_of(["seed=4", "agent.learning_rate=0.001"]).trials
    assert one.hash == same.hash != other.hash


def test_the_hash_leaves_out_only_what_changes_no_number():
    settings = RunSettings()
    assert hash_of(replace(settings, workers=5, name="x", max_restarts=9)) == hash_of(settings)
    for changed in (
        replace(settings, seed=1),
        replace(settings, device="cpu"),
        replace(settings, agent=replace(settings.agent, gamma=0.5)),
        replace(settings, compare=replace(settings.compare, seeds=3)),
    ):
        assert hash_of(changed) != hash_of(settings)


def test_every_different_combination_is_checked_once_and_a_bad_one_is_named(monkeypatch):
    seen = []

    def check(settings, learns):
        assert learns
        seen.append(settings.agent.gamma)
        if settings.agent.gamma == 0.5:
            raise ConfigError("it cannot", "do other")

    monkeypatch.setattr(planning, "check", check)
    check_trials(plan_of(["agent.gamma=0.9,1.0", "seed=range(0,5)"]))
    assert seen == [0.9, 1.0]
    with pytest.raises(ConfigError, match=r"agent\.gamma=0\.5 seed=0: it cannot") as caught:
        check_trials(plan_of(["agent.gamma=0.9,0.5", "seed=0,1"]))
    assert caught.value.hint == "do other"


def test_equal_words_make_the_same_folder_in_any_order():
    path = default_path(plan_of(["seed=0,1", "agent.gamma=0.9,1.0"]))
    assert path.parent == Path("sweeps")
    assert path == default_path(plan_of(["agent.gamma=0.9,1.0", "seed=0,1"])).with_name(path.name)
    assert path != default_path(plan_of(["seed=0,1,2", "agent.gamma=0.9,1.0"]))
    assert default_path(plan_of(["seed=0,1", "sweep.name=x"])) == Path("sweeps/x")


@pytest.mark.parametrize(
    ("cpus", "gpus", "settings", "fits"),
    [
        (8, 0, {}, 8),
        (8, 0, {"cpus_per_trial": 3}, 2),
        (8, 2, {"gpus_per_trial": 1.0}, 2),
        (8, 2, {"gpus_per_trial": 0.3}, 6),
        (4, 2, {"gpus_per_trial": 0.3}, 4),
        (8, 4, {"gpus_per_trial": 2.0}, 2),
        (8, 0, {"gpus_per_trial": 0.5}, 0),
        (2, 0, {"cpus_per_trial": 3}, 0),
    ],
)
def test_how_many_trials_fit_on_a_node(cpus, gpus, settings, fits):
    assert fit(SweepSettings(**settings), cpus, gpus) == fits


def test_this_machine_runs_no_more_than_there_are_or_were_asked_for():
    plan = plan_of(["seed=range(0,5)"])
    assert at_once_here(plan, 2, 0) == 2
    assert at_once_here(plan, 64, 0) == 5
    assert at_once_here(plan_of(["seed=range(0,5)", "sweep.max_concurrent=3"]), 64, 0) == 3


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("sweep.cpus_per_trial=64", "asks for 64 CPU, this machine has 2"),
        ("sweep.gpus_per_trial=4", "asks for 4 GPU, this machine has 0"),
    ],
)
def test_what_this_machine_lacks_is_told_in_numbers(word, told):
    with pytest.raises(ResourceError, match=told):
        at_once_here(plan_of([word]), 2, 0)
