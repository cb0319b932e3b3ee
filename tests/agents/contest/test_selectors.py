"""Selectors: what they learn from which tasks, when they choose, and what that costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from automix.agents.config.settings import RunSettings, WorldsSettings
from automix.agents.config.worlds import learned_worlds
from automix.agents.contest.contestants import Player, contestants_of
from automix.agents.contest.controls import CONTROLS, SearchResult
from automix.agents.contest.controls.evaluator import (
    SearchEvaluator,
    Shares,
    Start,
    WorldMaker,
    world_of,
)
from automix.agents.contest.controls.lessons import Lessons, choose, probe_end, signs_of
from automix.agents.contest.controls.selector import play_lessons
from automix.agents.contest.run_controls import check_controls, search
from automix.agents.jobs.run import run_compare
from automix.agents.parallel.worker import InlineWorker
from automix.agents.runs.result_cache import ResultCache
from automix.core.errors import ConfigError
from automix.data.tasks import TaskSpec
from automix.envs import ActionCodec, ActionSettings, EnvSettings, RewardSettings
from automix.envs.surrogate import SurrogateWorld
from automix.envs.worlds import build_world
from automix.mixing.actions import PLAIN, MixAction
from tests.agents import tiny_run
from tests.agents.stand_ins import NoisyWorld
from tests.envs.test_suites import LONG, SHORT

MENU = ActionCodec(ActionSettings(ratios=(0.25, 0.5))).choices
CUTMIX = MixAction("cutmix", 0.5)
BUDGET = 10
ENV = EnvSettings(decisions=5, reward=RewardSettings(name="final_accuracy"))
FORMS = ("selector", "selector_probe")


class SizedWorld(SurrogateWorld):
    """Large tasks have wrong labels and want CutMix, small ones have none and want no mixing."""

    def draw(self, rng: np.random.Generator) -> TaskSpec:
        large = bool(rng.integers(2))
        size = int(rng.integers(400, 900) if large else rng.integers(50, 200))
        seed = int(rng.integers(2**31))
        return TaskSpec(train_size=size, label_noise=0.4 if large else 0.0, seed=seed)


class HiddenWorld(SurrogateWorld):
    """Tasks of one size: only the training shows which have wrong labels."""

    def __init__(self, budget: int) -> None:
        super().__init__(budget, (0.0, 0.4))


SUITE = WorldMaker(build_world, ((SHORT, LONG), "cpu"))


def fitted(
    name: str, worlds: WorldMaker, epochs: int, menu: Sequence[MixAction] = MENU, **options: Any
) -> SearchResult:
    evaluator = SearchEvaluator(worlds, menu, 3, [InlineWorker()], **{"env": ENV, **options})
    return CONTROLS[name](evaluator, epochs)


def chosen(lessons: Lessons, world: Any, spec: TaskSpec) -> MixAction:
    """Choose on a task that was not learned from, with what a probe sees if it is one that does."""
    start = [Start(spec, 99)]
    maker = WorldMaker(type(world), (world.budget,))
    ((signs, _),), _ = play_lessons({}, maker, start, ENV, MENU, lessons.probes)
    return choose(lessons, MENU, signs)


# What is learned ---------------------------------------------------------------------------------


def test_a_selector_finds_the_rule_that_the_facts_show():
    found = fitted("selector", WorldMaker(SizedWorld, (BUDGET,)), 60 * len(MENU) * BUDGET)
    assert found.lessons
    assert found.schedule == ()
    assert len(found.lessons.signs) == 60
    for size, best in ((60, PLAIN), (150, PLAIN), (450, CUTMIX), (800, CUTMIX)):
        spec = TaskSpec(train_size=size, label_noise=0.4 * (size > 300), seed=1)
        assert chosen(found.lessons, SizedWorld(BUDGET), spec) == best, size


def test_only_the_probe_sees_what_no_fact_says():
    world = HiddenWorld(BUDGET)
    choices = {}
    for name in FORMS:
        found = fitted(name, WorldMaker(HiddenWorld, (BUDGET,)), 60 * len(MENU) * BUDGET)
        assert found.lessons
        specs = [TaskSpec(train_size=200, label_noise=noise, seed=1) for noise in (0.0, 0.4)]
        choices[name] = [chosen(found.lessons, world, spec) for spec in specs]
    assert choices["selector_probe"] == [PLAIN, CUTMIX]
    assert len(set(choices["selector"])) == 1


def test_it_mixes_only_where_it_expects_more_than_the_margin():
    signs = ((1.0,), (1.0,), (1.0,), (2.0,), (2.0,), (2.0,))
    gains = tuple((0.0, gain, -0.1) for gain in (0.02,) * 3 + (0.05,) * 3)
    actions = [PLAIN, CUTMIX, MixAction("mixup", 0.5)]
    for margin, mixed in ((0.0, [True, True]), (0.03, [False, True]), (0.06, [False, False])):
        lessons = Lessons(signs=signs, gains=gains, probes=False, margin=margin, seed=0)
        told = [choose(lessons, actions, [sign]) for sign in (1.0, 2.0)]
        assert told == [CUTMIX if mixes else PLAIN for mixes in mixed], margin


def test_gains_are_those_over_no_mixing_whether_it_is_on_offer_or_not():
    for menu in (MENU, [CUTMIX, MixAction("mixup", 0.25)]):
        worlds = WorldMaker(SizedWorld, (BUDGET,))
        found = fitted("selector", worlds, 10 * (len(menu) + 1) * BUDGET, menu)
        assert found.lessons
        for signs, gains in zip(found.lessons.signs, found.lessons.gains, strict=True):
            noise = 0.4 if signs[2] > math.log10(300) else 0.0
            none = SurrogateWorld(BUDGET, (noise,)).value(PLAIN)
            cutmix = SurrogateWorld(BUDGET, (noise,)).value(CUTMIX)
            own = list(dict.fromkeys([PLAIN, *menu])).index(CUTMIX)
            assert gains[0] == 0
            assert math.isclose(gains[own], cutmix - none, abs_tol=1e-9)


# What it costs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMS)
def test_worlds_of_different_budgets_are_counted_by_task_and_never_beyond_the_allowance(name):
    menu = [PLAIN, CUTMIX]
    told: list[int] = []
    found = fitted(name, SUITE, 85, menu, on_epochs=told.append, env=replace(ENV, decisions=2))
    assert found.lessons
    budgets = [round(10 ** signs[0]) for signs in found.lessons.signs]
    assert set(budgets) == {2, 5}
    assert found.classifier_epochs == sum(told) == len(menu) * sum(budgets)
    assert 85 - len(menu) * 5 < found.classifier_epochs <= 85
    # Each epoch trains on its images there and back; 20 of the probe and 30 are measured, at the
    # start and after both decisions.
    sizes = [round(10 ** signs[2]) for signs in found.lessons.signs]
    passes = [2 * b * n + 3 * 50 for b, n in zip(budgets, sizes, strict=True)]
    assert found.passes == len(menu) * sum(passes)


def test_passes_are_counted_exactly():
    found = fitted("selector", WorldMaker(NoisyWorld, (BUDGET,)), 9 * len(MENU) * BUDGET)
    assert found.classifier_epochs == 9 * len(MENU) * BUDGET
    assert found.passes == 5 * found.classifier_epochs


@pytest.mark.parametrize("name", ["grid", "ucb", "cem", "successive_halving", "optuna"])
def test_other_searches_count_by_task_too(name):
    evaluator = SearchEvaluator(SUITE, [PLAIN, CUTMIX], 0, [InlineWorker()])
    assert (evaluator.budgets, evaluator.budget) == ([2, 5], 4)
    played: list[TaskSpec] = []
    world = world_of(SUITE)
    share = evaluator.share

    def watched(function, starts, *rest):
        played.extend(start.spec for start in starts)
        return share(function, starts, *rest)

    evaluator.share = watched  # type: ignore[method-assign]
    result = CONTROLS[name](evaluator, 20 * 4)
    assert result.classifier_epochs == sum(world.facts(spec).budget for spec in played)


# When it chooses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("decisions", "budget", "end"),
    [(5, 10, 2), (5, 7, 1), (5, 300, 60), (0, 20, 4), (2, 10, 5), (1, 4, 4)],
)
def test_a_probe_ends_where_the_agent_decides_nearest_to_a_fifth(decisions, budget, end):
    assert probe_end(EnvSettings(decisions=decisions).starts(budget), budget) == end


@pytest.mark.parametrize("name", FORMS)
def test_it_chooses_once_by_what_it_then_sees_and_plays_that_to_the_end(name):
    worlds = WorldMaker(HiddenWorld, (BUDGET,))
    found = fitted(name, worlds, 60 * len(MENU) * BUDGET)
    (contestant,) = contestants_of([name], MENU, {name: found})
    assert contestant.kind == "control"
    world = HiddenWorld(BUDGET)
    spec = TaskSpec(train_size=200, label_noise=0.4, seed=1)
    player = Player(contestant, MENU, None, 0, world.facts(spec), ENV.starts(BUDGET))
    ((signs, _),), _ = play_lessons({}, worlds, [Start(spec, 1)], ENV, MENU, name in FORMS[1:])
    seen = np.float32(signs[len(signs_of(world.facts(spec))) :] or [0.0])
    played = []
    for epoch in range(BUDGET):
        # What comes later must not matter.
        shown = seen.copy() if epoch == 2 else np.full_like(seen, 0.3)
        shown[0] = epoch / BUDGET
        played.append(player.act(shown, epoch in ENV.starts(BUDGET)))
    choice = chosen(found.lessons, world, spec)  # type: ignore[arg-type]
    assert played == [PLAIN] * (2 * (name == "selector_probe")) + [choice] * (
        BUDGET - 2 * (name == "selector_probe")
    )


# In a run ----------------------------------------------------------------------------------------


def suite_settings(*words: str) -> RunSettings:
    settings = tiny_run.settings(
        "env.decisions=2",
        "env.actions.methods=[none,cutmix]",
        "env.actions.ratios=[0.5]",
        "compare.search_epochs=80",
        "compare.draws=2",
        "compare.seeds=2",
        "compare.contestants=[none,selector,selector_probe]",
        *words,
    )
    suite = {"short": {"trainer": {"epochs": 2}}, "long": {"trainer": {"epochs": 4}}}
    return replace(settings, worlds=WorldsSettings(suite=suite))


def test_equal_seeds_learn_the_same_whoever_trains_and_resumed_runs_learn_nothing_twice(
    processes, tmp_path, monkeypatch
):
    settings = suite_settings()
    cache = ResultCache(tmp_path / "finished.jsonl")
    alone = search(settings, [InlineWorker()], "cpu", 0, cache)
    assert search(settings, processes, "cpu", 0) == alone
    assert alone["selector"].lessons != alone["selector_probe"].lessons

    def never(*arguments, **options):
        raise AssertionError("played again")

    monkeypatch.setattr(SearchEvaluator, "share", never)
    assert (
        search(settings, [InlineWorker()], "cpu", 0, ResultCache(tmp_path / "finished.jsonl"))
        == alone
    )


def test_a_run_shows_what_selectors_cost_and_no_schedule_of_theirs(tmp_path):
    result = run_compare(suite_settings("compare.selector_margin=0"), tmp_path / "run")
    rows = {row["name"]: row for row in result["contestants"]}
    played = rows["none"]["epochs_spent"]
    assert played == 2 * (2 + 4)
    trials = tiny_run.lines(tmp_path / "run" / "trials.jsonl")
    for name in FORMS:
        assert rows[name]["kind"] == "control"
        assert 80 - 2 * 4 < rows[name]["epochs_spent"] - played <= 80
        assert rows[name]["passes"] > rows["none"]["passes"]
        for trial in trials:
            if trial["contestant"] == name:
                first = len(trial["mixes"]) // 2 if name == "selector_probe" else 0
                assert set(trial["mixes"][:first]) <= {"none"}
                assert len(set(trial["mixes"][first:])) == 1
    assert result["found"] == {}


def test_controls_search_on_the_suite_that_was_learned_on():
    own = suite_settings()
    assert [world.name for world in learned_worlds(own)] == ["short", "long"]
    others = replace(own, compare=replace(own.compare, learned_on="embedded"))
    names = {world.name.partition(" ")[0] for world in learned_worlds(others)}
    assert {"digits", "letters_easy", "patches_hard"} <= names
    missing = replace(own, compare=replace(own.compare, learned_on="embeded"))
    with pytest.raises(ConfigError, match=r"compare.learned_on: .*Did you mean 'embedded'"):
        learned_worlds(missing)


def test_what_cannot_search_on_a_suite_is_refused_by_name():
    settings = suite_settings("compare.contestants=[none,grid,pbt]")
    with pytest.raises(ConfigError, match=r"'pbt' wants training runs of equal.* 2 to 4"):
        check_controls(settings, "cpu")
    check_controls(suite_settings("compare.contestants=[none,grid]"), "cpu")
    few = SearchEvaluator(SUITE, MENU, 0, [InlineWorker()], Shares())
    with pytest.raises(ConfigError, match="'selector' may spend 99 classifier epochs, wanted 224"):
        CONTROLS["selector"](few, 99)
