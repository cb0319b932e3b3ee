"""What contestants settle on a task before it is trained: on which evidence, at what cost."""

from __future__ import annotations

import ast
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import automix.agents.contest.own_training
from automix.agents.cli.tables import print_result
from automix.agents.config.settings import HELD_OUT
from automix.agents.contest.compare import Match, play_group
from automix.agents.contest.contestants import contestants_of
from automix.agents.contest.own_training import SETTLING, asks_policy, tuned
from automix.agents.contest.own_training.settling import settle
from automix.agents.contest.own_training.try_on_task import OneTask, try_on_task
from automix.agents.contest.run_controls import searching
from automix.agents.jobs.cost import classifier_epochs
from automix.agents.jobs.run import run_compare
from automix.agents.parallel.worker import InlineWorker
from automix.agents.runs.result_cache import ResultCache
from automix.core.errors import ConfigError
from automix.data.tasks import TaskSpec
from automix.envs import ActionCodec, ActionSettings, EnvSettings, ImageWorld
from automix.envs.mix_env import draw_start
from automix.envs.worlds import WorldSettings
from automix.mixing.actions import PLAIN, MixAction
from automix.policy.policy import save_policy
from automix.training.population import Population
from tests import tiny
from tests.agents import tiny_run
from tests.agents.jobs.test_run import always
from tests.agents.stand_ins import NoisyWorld
from tests.envs import worlds

MENU = ActionCodec(ActionSettings(ratios=(0.25, 0.5))).choices
SPEC = TaskSpec(train_size=40, label_noise=0.3, seed=HELD_OUT)
SEED = 5


def world(**trainer) -> ImageWorld:
    return ImageWorld(worlds.FAMILY, tiny.trainer_settings(**{"epochs": 3, **trainer}))


def trained(where: ImageWorld, action: MixAction, seed: int) -> float:
    population = where.start([SPEC])
    population.reset([seed])
    return population.run_epoch([action], where.budget)[0].val_accuracy


# try_on_task -------------------------------------------------------------------------------------


def test_it_finds_the_best_choice_of_each_task_at_the_cost_of_its_rounds():
    for choices, trainings in ((2, 2), (4, 8), (7, 7 + 4 + 2 * 5)):
        for noise, best in ((0.0, PLAIN), (0.4, MixAction("cutmix", 0.5))):
            menu = [best, *(one for one in reversed(MENU) if one != best)][:choices]
            spec = TaskSpec(train_size=200, label_noise=noise, seed=1)
            settled = try_on_task(NoisyWorld(10), spec, SEED, menu)  # type: ignore[arg-type]
            assert settled.action == best, (choices, noise)
            assert settled.epochs == 10 * trainings, choices
            assert settled.passes == 5 * settled.epochs


def test_it_trains_its_own_task_only_each_time_with_another_seed_and_never_to_be_compared(
    monkeypatch,
):
    seeds: list[int] = []
    reset = Population.reset

    def watched(population, own, *rest):
        seeds.extend(own)
        assert all(task.spec == SPEC for task in population.tasks)
        return reset(population, own, *rest)

    monkeypatch.setattr(Population, "reset", watched)
    menu = [PLAIN, MixAction("cutmix", 0.5), MixAction("mixup", 0.5)]
    settled = try_on_task(world(epochs=1), SPEC, SEED, menu)
    # 3 choices once, then 2 of them once: 6 may be spent.
    assert len(seeds) == settled.epochs == 5
    assert len(set(seeds)) == 2
    drawn = [draw_start(OneTask(world(), SPEC), np.random.default_rng(SEED)) for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert drawn[0][0] == SPEC


# The tuned recipe --------------------------------------------------------------------------------


def test_recipes_are_six_with_the_one_given_first():
    for decay, decays in ((1e-4, (1e-4, 1e-3)), (0.0, (0.0, 5e-4)), (0.05, (0.05, 0.5))):
        given = tiny.trainer_settings(lr=0.1, weight_decay=decay)
        tried = tuned.recipes(given)
        assert tried[0] == given
        got = {(round(r.lr, 9), round(r.weight_decay, 9)) for r in tried}
        assert got == {(lr, wd) for lr in (0.1, 0.03, 0.3) for wd in decays}, decay
        assert {replace(r, lr=0.1, weight_decay=decay) for r in tried} == {given}


def test_the_recipe_is_the_best_of_the_six_on_validation_and_both_contestants_share_it(monkeypatch):
    here, started = world(epochs=5), []
    reset = Population.reset

    def watched(population, seeds, *rest):
        started.append((population.settings, seeds))
        return reset(population, seeds, *rest)

    monkeypatch.setattr(Population, "reset", watched)
    contestants = contestants_of(["tuned_none", "none", "tuned_agent"], MENU)
    task = (WorldSettings(worlds.FAMILY, here.trainer), SPEC, SEED)
    (told,) = settle(contestants, [task], MENU, [InlineWorker()], "cpu", ResultCache())
    none, untouched, agent = (one.settled for one in told)
    assert untouched is None
    assert none == agent
    assert none
    assert [settings for settings, _ in started] == tuned.recipes(here.trainer)
    assert {tuple(seeds) for _, seeds in started} == {(SEED,)}
    assert none.action == PLAIN
    assert none.epochs == 6 * 5
    # 5 epochs of 40 images there and back; 20 of the probe and 30 measured twice.
    assert none.passes == 6 * (2 * 5 * 40 + 2 * 50)
    scores = [
        trained(ImageWorld(worlds.FAMILY, recipe), PLAIN, SEED)
        for recipe in tuned.recipes(here.trainer)
    ]
    first_best = tuned.recipes(here.trainer)[int(np.argmax(scores))]
    assert replace(here.trainer, **dict(none.recipe)) == first_best
    assert len(set(scores)) > 1


def test_a_recipe_that_diverges_is_never_kept():
    settled = SETTLING["tuned_none"](world(lr=1e18, epochs=2), SPEC, SEED, MENU)
    assert settled.epochs == 12
    assert math.isfinite(dict(settled.recipe)["lr"])


# By size -----------------------------------------------------------------------------------------


def test_by_size_mixes_weakly_from_two_hundred_images_on_and_costs_nothing():
    here = world()
    cases = {
        (199, 7): PLAIN,
        (200, 7): MixAction("mixup", 0.25),
        (1000, 7): MENU[1],
        (1000, 1): PLAIN,
    }
    for (size, choices), action in cases.items():
        spec = TaskSpec(train_size=size, label_noise=0.0, seed=0)
        settled = SETTLING["by_size"](here, spec, SEED, MENU[:choices])
        assert (settled.action, settled.epochs, settled.passes) == (action, 0, 0), size
        assert settled.recipe == ()


# In a comparison ---------------------------------------------------------------------------------


def test_what_is_settled_is_played_on_the_compared_seeds_and_paid_for_once_a_task():
    here = WorldSettings(worlds.FAMILY, tiny.trainer_settings(epochs=3))
    names = ["none", "try_on_task", "agent", "tuned_none", "tuned_agent", "by_size"]
    policy = always("mixup@0.5", 100)
    env = EnvSettings(
        actions=ActionSettings(methods=("none", "mixup"), ratios=(0.25, 0.5), space="flat"),
        observations=("progress",),
    )
    match = Match(spec=SPEC, task=SPEC.kind, trainings=2)
    choices = ActionCodec(env.actions).choices
    task = (here, SPEC, match.seed("settling", 0))
    (contestants,) = settle(
        contestants_of(names, choices), [task], choices, [InlineWorker()], "cpu", ResultCache()
    )
    trials = play_group({}, here, env, "cpu", contestants, policy, match)
    assert [(t["contestant"], t["training"]) for t in trials] == [
        (name, training) for training in (0, 1) for name in names
    ]
    by_name = {(t["contestant"], t["training"]): t for t in trials}
    costs = {"try_on_task": (3 + 2) * 3, "tuned_none": 18, "tuned_agent": 18, "by_size": 0}
    for name, cost in costs.items():
        assert by_name[name, 0]["settling_epochs"] == cost, name
        assert (by_name[name, 0]["settling_passes"] > 0) == (cost > 0), name
        assert "settling_epochs" not in by_name[name, 1]
    assert by_name["tuned_agent", 0]["mixes"] == ["mixup@0.5"] * 3
    assert "observations" not in by_name["tuned_agent", 0]
    assert by_name["tuned_none", 1]["mixes"] == ["none"] * 3
    for training in (0, 1):
        for key in ("val_accuracy", "test_accuracy"):
            assert by_name["by_size", training][key] == by_name["none", training][key]
    found = SETTLING["tuned_none"](_world_of(here), SPEC, match.seed("settling", 0), choices)
    best = ImageWorld(worlds.FAMILY, replace(here.trainer, **dict(found.recipe)))
    seed = match.seed("trial", 1)
    assert by_name["tuned_none", 1]["val_accuracy"] == pytest.approx(
        trained(best, PLAIN, seed), abs=0.035
    )


def _world_of(settings: WorldSettings) -> ImageWorld:
    return ImageWorld(settings.task, settings.trainer)


def test_a_run_charges_settling_and_the_agents_learning(tmp_path, capsys):
    save_policy(tmp_path / "policy", always("mixup@0.5", 1000))
    settings = replace(
        tiny_run.settings(
            "compare.contestants=[agent,none,tuned_none,tuned_agent,try_on_task,by_size]",
            "compare.kinds=[40@0.0]",
        ),
        policy=str(tmp_path / "policy"),
    )
    result = run_compare(settings, tmp_path / "run")
    rows = {row["name"]: row for row in result["contestants"]}
    played = 2 * 2
    assert {name: row["epochs_spent"] for name, row in rows.items()} == {
        "agent": played + 1000,
        "none": played,
        "tuned_none": played + 2 * 12,
        "tuned_agent": played + 2 * 12 + 1000,
        "try_on_task": played + 2 * 5 * 2,
        "by_size": played,
    }
    assert rows["tuned_none"]["kind"] == "settles"
    tuned_by = rows["tuned_agent"]["mean"] - rows["tuned_none"]["mean"]
    assert result["on_tuned_recipe"]["mean"] == pytest.approx(tuned_by)
    print_result(result)
    assert "On the tuned recipe, the agent minus no mixing: " in capsys.readouterr().out
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert "Successive halving on the task itself" in page


def test_the_same_is_settled_whoever_trains_and_never_twice_in_a_resumed_run(
    processes, tmp_path, monkeypatch
):
    here = WorldSettings(worlds.FAMILY, tiny.trainer_settings(epochs=1))
    contestants = contestants_of(["tuned_agent", "tuned_none", "try_on_task", "by_size"], MENU[:2])
    tasks = [(here, replace(SPEC, seed=HELD_OUT + number), SEED + number) for number in range(2)]
    file = tmp_path / "finished.jsonl"
    alone = settle(contestants, tasks, MENU[:2], [InlineWorker()], "cpu", ResultCache(file))
    assert settle(contestants, tasks, MENU[:2], processes, "cpu", ResultCache()) == alone
    assert len(file.read_text().splitlines()) == 2 * 3

    def never(*arguments):
        raise AssertionError("trained again")

    monkeypatch.setattr(Population, "reset", never)
    assert settle(contestants, tasks, MENU[:2], [InlineWorker()], "cpu", ResultCache(file)) == alone


def test_what_settling_costs_is_told_before_a_run():
    settings = tiny_run.settings("compare.contestants=[tuned_none,tuned_agent,try_on_task]")
    choices = len(ActionCodec(settings.env.actions).choices)
    rounds = math.ceil(math.log2(choices))
    assert classifier_epochs(settings, learns=False)["settling"] == 4 * 2 * (6 + choices * rounds)
    assert searching(settings) == []


def test_a_tuned_agent_needs_a_policy():
    assert [name for name in ("agent", "none", *SETTLING) if asks_policy(name)] == [
        "agent",
        "tuned_agent",
    ]
    with pytest.raises(ConfigError, match="'tuned_agent' has no policy"):
        run_compare(tiny_run.settings("compare.contestants=[none,tuned_agent]"), Path("never"))


def test_nothing_that_settles_opens_the_test_split():
    for path in Path(automix.agents.contest.own_training.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        assert not any("evaluation" in name for name in names), path
        read = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        assert "test_index" not in read, path
