"""From overrides to trials: every one once, named by what its numbers depend on."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

import automix.agents.sweep.planning.plan as planning
from automix.agents.config.compose import load_settings
from automix.agents.config.settings import RunSettings
from automix.agents.parallel.machine import Capacity
from automix.agents.sweep.planning.plan import (
    at_once_here,
    check_trials,
    default_path,
    hash_of,
    plan_of,
)
from automix.agents.sweep.planning.schedule import Schedule, SearchSegment, write_schedule
from automix.core.errors import ConfigError, ResourceError
from tests.agents.sweep.stand_ins import WORDS, unlike

LR = "agent.learning_rate=1e-4,3e-4,1e-3"


def test_what_no_sweep_can_use_is_named():
    cases = [
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
        (["seed=0,1", "sweep.max_retries=many"], "max_retries"),
        (["seed=0,1", "sweep.max_retries=-1"], "0 or more"),
        (["seed=0,1", "sweep.cpus_per_trial=0"], "1 or more"),
        (["seed=0,1", "sweep.gpus_per_trial=1.5"], "a share from 0 to 1 or a whole number"),
        (["seed=0,1", "sweep.metric=test_accuracy"], "wanted val_accuracy"),
        (["seed=0,1", "sweep.search=gird"], "Did you mean 'grid'?"),
        (["seed=0,1", "sweep.trials=8"], "sweep.trials is for searches"),
        (["seed=0,1", "sweep.quantile=0.5"], "sweep.quantile is for searches"),
        (["seed=0,1", "ray.adress=auto"], "Did you mean 'address'?"),
        (["seed=0,1", "ray.address=auto,x"], "several values"),
    ]
    assert not unlike(cases, plan_of)


def test_what_cannot_be_searched_is_named():
    asha, pbt = "sweep.search=asha", "sweep.search=pbt"
    cases = [
        ([asha], "nothing to search"),
        ([asha, LR, "seed=0,1"], "one seed"),
        ([asha, LR, "workers=2"], "is not for a sweep"),
        ([asha, LR, "sweep.trials=4"], "the overrides make 3 different trials"),
        ([asha, LR, "sweep.trials=-1"], "0 or more"),
        ([asha, LR, "agent.learning_rate=1,2"], "given twice"),
        ([asha, "agent.gamma=interval(1,0.9)"], "the lesser number first"),
        ([asha, "agent.n_epochs=interval(1.5,3)"], "takes whole numbers"),
        ([asha, "agent.n_epochs=interval(1,2)", "sweep.trials=8"], "2 different"),
        ([asha, LR, "sweep.interval=60"], "judged every 60: never"),
        ([asha, LR, "sweep.grace=61"], "sweep.grace is 61"),
        ([asha, LR, "sweep.reduction_factor=1"], "above 1"),
        ([asha, "agent.total_timesteps=38400,76800"], "equally many updates"),
        ([asha, "agent.gamma=0.9,2"], "agent.gamma=2: "),
        ([pbt, LR, "sweep.quantile=0.6"], "at most 0.5"),
        ([pbt, "agent=ppo,a2c"], "agent cannot vary while an agent learns"),
        ([pbt, "agent.net_arch=[8],[16]"], "agent.net_arch cannot vary"),
        ([pbt, "trainer.probe_size=20,40"], "trainer.probe_size cannot vary"),
        ([pbt, LR, "agent.gamma=0.9", "sweep.trials=1"], "of one trial is none"),
        (["sweep.search=pb2", LR], "pb2 searches intervals"),
        ([asha, LR, "sweep.replay=x"], "do not go together"),
        (["sweep.search=replay", LR], "do not go together"),
        (["sweep.search=bohb", LR], "wanted grid or asha"),
    ]
    assert not unlike(cases, plan_of)
    with pytest.raises(ConfigError) as caught:
        plan_of([pbt, "agent.group_size=4,8"])
    free = caught.value.hint.partition(": ")[2].split(", ")
    assert {"agent.learning_rate", "agent.ent_coef", "agent.batch_size"} <= set(free)
    assert not {"agent.net_arch", "agent.groups", "agent.total_timesteps"} & set(free)


def test_a_grid_has_every_combination_once_and_the_last_key_changes_fastest():
    words = ["agent.net_arch=[8]", "agent.gamma=0.9,1.0", "agent.n_epochs=1,2", "seed=range(0,3)"]
    plan = plan_of(words)
    assert plan.keys == ["agent.gamma", "agent.n_epochs", "seed"]
    assert [tuple(trial.values.values()) for trial in plan.trials] == list(
        itertools.product(["0.9", "1.0"], ["1", "2"], ["0", "1", "2"])
    )
    for trial in plan.trials:
        agent = trial.settings.agent
        assert trial.values == {
            "agent.gamma": str(agent.gamma),
            "agent.n_epochs": str(agent.n_epochs),
            "seed": str(trial.settings.seed),
        }
        assert agent.net_arch == (8,)
    assert len({trial.hash for trial in plan.trials}) == 12


def test_settings_are_those_that_the_overrides_of_a_trial_alone_make():
    for trial in plan_of(["agent=a2c,ppo", "agent.gamma=0.9", "seed=1,2"]).trials:
        alone = load_settings(trial.overrides)
        assert alone.agent.name == trial.values["agent"]  # a group brings its own values
        assert replace(alone, workers=1, device="cpu") == trial.settings


def test_a_search_has_a_trial_for_each_point():
    plan = plan_of([LR, "agent.gamma=0.9", "sweep.search=asha", "seed=4"])
    assert [dict(trial.values) for trial in plan.trials] == [
        {"agent.learning_rate": value} for value in ("0.0001", "0.0003", "0.001")
    ]
    for trial, rate in zip(plan.trials, (1e-4, 3e-4, 1e-3), strict=True):
        agent = trial.settings.agent
        assert (agent.learning_rate, agent.gamma, trial.settings.seed) == (rate, 0.9, 4)
        assert (trial.settings.workers, trial.settings.device) == (1, "cpu")
    assert (plan.updates, plan.interval) == (60, 6)


def test_a_trial_works_as_a_task_can():
    (trial,) = plan_of(["sweep.cpus_per_trial=3", "ray.address=auto", "device=auto"]).trials
    settings = trial.settings
    assert (settings.workers, settings.threads, settings.backend) == (3, 1, "local")
    assert (settings.device, settings.ray.address, settings.name) == ("cpu", "", "")
    # A GPU is fed by one process.
    (trial,) = plan_of(["sweep.cpus_per_trial=3", "sweep.gpus_per_trial=0.5"]).trials
    assert (trial.settings.workers, trial.settings.device) == (1, "cuda")


def test_the_hash_stands_for_what_the_numbers_depend_on():
    (one,) = plan_of(["agent.learning_rate=1e-3", "seed=3"]).trials
    (same,) = plan_of(["seed=3", "agent.learning_rate=0.001", "sweep.cpus_per_trial=2"]).trials
    (other,) = plan_of(["seed=4", "agent.learning_rate=0.001"]).trials
    assert one.hash == same.hash != other.hash
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


def test_equal_overrides_make_the_same_folder_in_any_order():
    path = default_path(plan_of(["seed=0,1", "agent.gamma=0.9,1.0"]))
    assert path.parent == Path("sweeps")
    assert path == default_path(plan_of(["agent.gamma=0.9,1.0", "seed=0,1"])).with_name(path.name)
    assert path != default_path(plan_of(["seed=0,1,2", "agent.gamma=0.9,1.0"]))
    assert default_path(plan_of(["seed=0,1", "sweep.name=x"])) == Path("sweeps/x")
    asha = default_path(plan_of([LR, "sweep.search=asha"]))
    assert asha.name == f"{default_path(plan_of([LR])).name}_asha"


def test_this_machine_runs_no_more_trials_than_fit_there_are_or_were_asked_for(monkeypatch):
    def at_once(cpus, gpus, *words):
        monkeypatch.setattr(planning, "capacity", lambda settings: Capacity(cpus, gpus))
        return at_once_here(plan_of(["seed=range(0,9)", *words]))

    for cpus, gpus, words, wanted in (
        (2, 0, (), 2),
        (64, 0, (), 9),
        (64, 0, ("sweep.max_concurrent=3",), 3),
        (8, 0, ("sweep.cpus_per_trial=3",), 2),
        (8, 2, ("sweep.gpus_per_trial=1.0",), 2),
        (8, 2, ("sweep.gpus_per_trial=0.3",), 6),
        (4, 2, ("sweep.gpus_per_trial=0.3",), 4),
        (8, 4, ("sweep.gpus_per_trial=2.0",), 2),
    ):
        assert at_once(cpus, gpus, *words) == wanted, (cpus, gpus, words)
    lacking = [
        ("sweep.cpus_per_trial=64", "asks for 64 CPU, this machine has 2"),
        ("sweep.gpus_per_trial=4", "asks for 4 GPU, this machine has 0"),
        ("sweep.gpus_per_trial=0.5", "asks for 0.5 GPU, this machine has 0"),
    ]
    assert not unlike(lacking, lambda word: at_once(2, 0, word), ResourceError)


# Replays -----------------------------------------------------------------------------------------


def replays(tmp_path, values, *more):
    file = tmp_path / "schedule.jsonl"
    segments = [SearchSegment(update, one) for update, one in enumerate(values)]
    write_schedule(file, Schedule(WORDS, 2, segments))
    return plan_of(["sweep.search=replay", f"sweep.replay={file}", *more])


def test_further_overrides_stand_in_the_place_of_the_schedules(tmp_path):
    rates = [{"agent.learning_rate": "0.001"}, {"agent.learning_rate": "0.1"}]
    plan = replays(tmp_path, rates, "seed=7", "trainer.probe_size=10")
    (trial,) = plan.trials
    assert (trial.settings.seed, trial.settings.trainer.probe_size) == (7, 10)
    assert trial.settings.task.val_size == 30
    assert default_path(plan).name == f"digits_replay_{trial.hash[:8]}"
    assert replays(tmp_path, rates).trials[0].hash != trial.hash
    cases = [
        ("agent.learning_rate=0.5", "what the schedule sets"),
        ("agent.total_timesteps=32", "for 2 updates, and it would be 4"),
        ("seed=1,2", "several values"),
        ("workers=3", "is not for a sweep"),
    ]
    assert not unlike(cases, lambda word: replays(tmp_path, rates, word))


def test_a_schedule_varies_nothing_but_how_the_agent_learns(tmp_path):
    keys = [(key, "") for key in ("agent.net_arch", "task.root", "name", "agent.groups")]
    assert not unlike(keys, lambda key: replays(tmp_path, [{key: "8"}]))
