"""Searches for a schedule: they find what is known to be best, and spend what they may."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import automix.agents.contest.controls
from automix.agents.config.settings import HELD_OUT
from automix.agents.contest.controls import CONTROLS, SearchResult, cem, trainings_within
from automix.agents.contest.controls.evaluator import SearchEvaluator, Shares, Start, WorldMaker
from automix.agents.contest.controls.pbt_member import PBTMember
from automix.agents.contest.controls.ucb import Effects
from automix.agents.contest.run_controls import search
from automix.agents.parallel.worker import InlineWorker
from automix.core.errors import ConfigError
from automix.data.tasks import TaskSpec
from automix.envs import ActionCodec, ActionSettings, ImageWorld
from automix.envs.mix_env import draw_start
from automix.mixing.actions import MixAction
from tests.agents import tiny_run
from tests.agents.stand_ins import FailingWorld, NoisyWorld

MENU = ActionCodec(ActionSettings(ratios=(0.25, 0.5))).choices
BUDGET = 10
WORLD = NoisyWorld(BUDGET)
NOISY = WorldMaker(NoisyWorld, (BUDGET,))
NONE, CUTMIX = MixAction.parse("none"), MixAction.parse("cutmix@0.5")

FIXED = ("grid", "successive_halving", "ucb")
QUICK = (*FIXED, "cem", "optuna")
every_quick = pytest.mark.parametrize("name", QUICK)


def evaluator(
    seed: int = 0, worlds: WorldMaker = NOISY, workers: Any = None, **shares: Any
) -> SearchEvaluator:
    return SearchEvaluator(worlds, MENU, seed, workers or [InlineWorker()], Shares(**shares))


def run(name: str, trainings: int, **options: Any) -> SearchResult:
    return CONTROLS[name](evaluator(**options), trainings * BUDGET)


def images() -> WorldMaker:
    settings = tiny_run.settings()
    return WorldMaker(ImageWorld, (settings.task, settings.trainer, "cpu"))


# The evaluator ---------------------------------------------------------------------------------


def spec(noise: float, size: int = 200) -> TaskSpec:
    return TaskSpec(train_size=size, label_noise=noise, seed=1)


def test_scores_are_starts_by_schedules_and_entries_are_stretched_over_the_budget():
    worlds = WorldMaker(FailingWorld, (BUDGET,))
    starts = [Start(spec(0.0), 1), Start(spec(0.4), 2), Start(spec(0.0, size=100), 3)]
    mixup = MixAction.parse("mixup@0.5")
    scores = evaluator(worlds=worlds).play(starts, [[NONE], [mixup], [NONE, mixup]])
    # The surrogate: 0.1 by chance, then 0.8 less what is missed; mixup@0.5 has the wrong method.
    assert_allclose(scores[0], [0.9, 0.1, 0.5], atol=1e-12)
    # With wrong labels 0.5 is wanted until 0.8 of the budget, and 0.25 afterwards.
    late = 0.2 * 0.8 * 0.4
    assert_allclose(scores[1, 1], 0.1 + 0.8 * 0.8 - late, atol=1e-12)
    assert_allclose(scores[2], scores[0], atol=1e-12)


def test_a_training_that_diverges_scores_nothing():
    failing = evaluator(worlds=WorldMaker(FailingWorld, (BUDGET,)))
    scores = failing.play([Start(spec(0.4), 0)], [[CUTMIX], [NONE]])
    assert scores[0, 0] == 0.0
    assert scores[0, 1] > 0.0


def test_tasks_are_those_of_the_agents_environment():
    here = evaluator(seed=3)
    rng = np.random.default_rng(3)
    expected = [Start(*draw_start(WORLD, rng)) for _ in range(5)]
    assert here.draw(2) + here.draw(3) == expected
    assert all(start.spec.seed < HELD_OUT for start in expected)


def test_a_lab_counts_epochs_and_passes_and_tells():
    told: list[int] = []
    shares = Shares(together=4)
    here = SearchEvaluator(NOISY, MENU, 0, [InlineWorker()], shares, on_epochs=told.append)
    here.play(here.draw(3), [[NONE], [CUTMIX]])
    assert here.epochs == sum(told) == 3 * 2 * BUDGET
    assert here.passes == 3 * 2 * BUDGET * 5


def test_no_more_train_together_than_may_and_parts_are_equal():
    here = evaluator(together=4)
    blocks = here._blocks([spec(0.0, size) for size in (100, 200) for _ in range(9)])
    assert [len(block) for block in blocks] == [3] * 6
    assert sorted(i for block in blocks for i in block) == list(range(18))
    assert blocks[0] == [9, 10, 11]  # the larger tasks first


def test_schedules_on_one_start_share_weights_batches_and_draws():
    here = evaluator(worlds=images(), together=64)
    starts = here.draw(3)
    scores = here.play(starts, [[CUTMIX], [NONE], [CUTMIX, CUTMIX]])
    assert (scores[:, 0] == scores[:, 2]).all()
    alone = evaluator(worlds=images(), together=1).play(starts, [[CUTMIX]])
    assert_allclose(scores[:, :1], alone, atol=0.035)  # one image of 30
    # 2 epochs of 40 or 60 images, measured before and after on 20 probe and 30 validation images.
    trained = sum(2 * 2 * start.spec.train_size + 2 * 50 for start in starts)
    assert here.passes == 3 * trained


def test_searches_never_open_the_test_split():
    folder = Path(automix.agents.contest.controls.__file__).parent
    for path in [folder.parent / "run_controls.py", *folder.glob("*.py")]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        assert not any("evaluation" in name for name in names), path
        assert not any(
            isinstance(n, ast.Attribute) and n.attr == "test_index" for n in ast.walk(tree)
        ), path


# What is found ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FIXED)
def test_searches_over_fixed_choices_find_the_best_one(name):
    best = max(MENU, key=WORLD.value)
    assert sorted(WORLD.value(a) for a in MENU)[-2] < WORLD.value(best) - 0.01
    for seed in range(3):
        assert run(name, 210, seed=seed).schedule == (best,)


@pytest.mark.parametrize("name", ["cem", "optuna"])
def test_searches_over_schedules_pass_the_best_constant_and_come_near_the_best_open_loop(name):
    constant = max(WORLD.value(action) for action in MENU)
    optimum = WORLD.open_loop(MENU)
    for seed in range(3):
        value = WORLD.of_schedule(run(name, 2000, seed=seed).schedule)
        assert constant + 0.5 * (optimum - constant) < value <= optimum + 1e-9


def test_halving_and_the_bandit_play_the_better_half_more_often(monkeypatch):
    for name in ("successive_halving", "ucb"):
        plays: dict[str, int] = {}
        play = SearchEvaluator.play

        def watched(self, starts, schedules, play=play, plays=plays):
            for (action,) in schedules:
                plays[str(action)] = plays.get(str(action), 0) + len(starts)
            return play(self, starts, schedules)

        monkeypatch.setattr(SearchEvaluator, "play", watched)
        run(name, 210)
        monkeypatch.undo()
        ranked = sorted(MENU, key=WORLD.value)
        assert plays[str(ranked[-1])] > 2 * plays[str(ranked[0])]


def test_one_choice_needs_no_search():
    for name in QUICK:
        only = SearchEvaluator(NOISY, [NONE], 0, [InlineWorker()])
        assert set(CONTROLS[name](only, 64 * BUDGET).schedule) == {NONE}


# What is spent ----------------------------------------------------------------------------------


@pytest.mark.parametrize("trainings", [100, 137, 1000])
@every_quick
def test_every_search_spends_what_it_may_and_no_more(name, trainings):
    here = evaluator()
    result = CONTROLS[name](here, trainings * BUDGET + BUDGET - 1)
    assert 0.9 * trainings * BUDGET <= result.classifier_epochs <= trainings * BUDGET
    assert result.classifier_epochs == here.epochs
    assert result.passes == 5 * here.epochs


@pytest.mark.parametrize("name", list(CONTROLS))
def test_too_few_epochs_for_a_round_are_refused_with_the_smallest_useful_number(name):
    least = CONTROLS.info(name).least(len(MENU))
    here = evaluator()
    with pytest.raises(ConfigError, match=f"{name}.* wanted {least * BUDGET} or more"):
        CONTROLS[name](here, least * BUDGET - 1)
    assert here.epochs == 0
    assert trainings_within(name, here, least * BUDGET) == least


@every_quick
def test_the_smallest_number_is_useful(name):
    least = CONTROLS.info(name).least(len(MENU))
    result = run(name, least)
    assert set(result.schedule) <= set(MENU)
    assert 0 < result.classifier_epochs <= least * BUDGET


@every_quick
def test_equal_seeds_find_the_same_whoever_trains(name, processes):
    alone, again = run(name, 150, seed=4), run(name, 150, seed=4)
    shared = run(name, 150, seed=4, workers=processes)
    assert alone == again == shared


def test_another_seed_draws_other_tasks_and_schedules():
    assert evaluator(seed=1).draw(3) != evaluator(seed=2).draw(3)
    assert run("cem", 100, seed=1).schedule != run("cem", 100, seed=2).schedule


# Their parts ------------------------------------------------------------------------------------


def test_effects_are_those_of_least_squares_with_a_level_for_every_task():
    rng = np.random.default_rng(0)
    truth, effects = np.array([0.0, 0.1, 0.3, 0.2]), Effects(4)
    rows, columns = [], []
    for task, chosen in enumerate([[0, 1, 2, 3], [2, 3], [1, 2], [0, 1, 2, 3], [2, 3], [0, 3]]):
        scores = 5 * task + truth[chosen] + rng.normal(0, 0.01, len(chosen))
        effects.add(np.array(chosen), scores[None])
        rows += [np.eye(6)[task].tolist() + np.eye(4)[choice].tolist() for choice in chosen]
        columns += scores.tolist()
    design, seen = np.array(rows), np.array(columns)
    fitted = np.linalg.lstsq(design, seen)[0]
    assert_allclose(effects.means(), fitted[6:] - fitted[6:].mean(), atol=1e-9)
    variance = ((seen - design @ fitted) ** 2).sum() / (len(seen) - 6 - 3)
    centred = np.linalg.pinv(design.T @ design)[6:, 6:]
    centre = np.eye(4) - 0.25
    assert_allclose(effects.errors() ** 2, variance * np.diag(centre @ centred @ centre))


def test_strong_company_does_not_count_against_a_choice():
    effects = Effects(3)
    effects.add(np.array([0, 1]), np.array([[0.5, 0.6]]))
    effects.add(np.array([1, 2]), np.array([[0.2, 0.3]]))
    assert_allclose(np.diff(effects.means()), [0.1, 0.1])


def test_drawn_schedules_follow_the_probabilities_of_each_segment():
    odds = np.array([[0.1, 0.2, 0.7], [1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    drawn = cem.draw_schedules(odds, 20_000, np.random.default_rng(0))
    shares = np.array([(drawn == choice).mean(0) for choice in range(3)]).T
    assert_allclose(shares, odds, atol=0.015)
    assert (shares[odds == 0] == 0).all()


def test_probabilities_move_towards_the_best_schedules():
    odds = np.full((2, 4), 0.25)
    drawn = np.array([[0, 1], [0, 2], [3, 2], [3, 3], *[[1, 0]] * 4])
    scores = np.array([0.9, 0.8, 0.1, 0.0, *[0.2] * 4])
    after = cem.moved(odds, drawn, scores)  # a quarter of eight: the first two
    best = np.array([[1.0, 0, 0, 0], [0, 0.5, 0.5, 0]])
    assert_allclose(after, odds + cem.SETTINGS.smoothing * (best - odds))


# Together ---------------------------------------------------------------------------------------


def test_search_gives_each_control_the_same_allowance_and_its_own_seed(monkeypatch):
    seeds = []
    drawn = SearchEvaluator.draw

    def watched(self, count):
        seeds.append(self.seed)
        return drawn(self, count)

    monkeypatch.setattr(SearchEvaluator, "draw", watched)
    chosen = "compare.contestants=[grid,none,successive_halving]"
    settings = tiny_run.settings("env.actions.ratios=[0.5]", chosen)
    menu = ActionCodec(settings.env.actions).choices
    results = search(settings, [InlineWorker()], "cpu", 2 * 8)
    assert list(results) == ["grid", "successive_halving"]
    for result in results.values():
        assert len(result.schedule) == 1
        assert result.schedule[0] in menu
        assert result.classifier_epochs == 2 * 8
        assert result.passes > 0
    assert len(set(seeds)) == 2


def test_search_refuses_before_it_spends_anything(monkeypatch):
    def never(*arguments):
        raise AssertionError("played")

    monkeypatch.setattr(SearchEvaluator, "play_each", never)
    settings = tiny_run.settings("compare.contestants=[grid,ucb]")
    with pytest.raises(ConfigError, match="'ucb' may spend 30 classifier epochs, wanted 40"):
        search(settings, [InlineWorker()], "cpu", 30)
    with pytest.raises(ConfigError, match=r"'gird' is not a control\. Did you mean 'grid'"):
        CONTROLS["gird"]


# Population Based Training ----------------------------------------------------------------------


def test_a_member_takes_over_weights_and_history(tmp_path):
    starts = evaluator(worlds=images()).draw(3)
    strong, weak = PBTMember(images(), starts), PBTMember(images(), starts)
    strong.train(NONE, 1)
    weak.train(CUTMIX, 1)
    strong.save(tmp_path)
    weak.load(tmp_path)
    assert weak.train(CUTMIX, 1) == strong.train(CUTMIX, 1)
    assert weak.played == strong.played == ["none", "cutmix@0.5"]
    fresh = PBTMember(images(), starts)
    accuracy, passes = fresh.train(NONE, 2)
    weak.begin()
    assert weak.train(NONE, 2) == (accuracy, passes)
    alone = evaluator(worlds=images()).play(starts, [[NONE]])
    assert accuracy == pytest.approx(alone.mean(), abs=0.035)


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
def test_population_based_training_replays_a_schedule_of_the_menu_and_counts():
    """Two epochs of 17 trials with 2 tasks each: one decision between them."""
    results = [CONTROLS["pbt"](evaluator(seed=7, worlds=images()), 35 * 2) for _ in range(2)]
    assert results[0] == results[1]
    assert results[0].classifier_epochs == 34 * 2
    assert len(results[0].schedule) == 2
    assert set(results[0].schedule) <= set(MENU)
    by_grid = CONTROLS["grid"](evaluator(seed=7, worlds=images()), 35 * 2)
    per_epoch = [result.passes / result.classifier_epochs for result in (results[0], by_grid)]
    assert 0.5 < per_epoch[0] / per_epoch[1] < 2.0
