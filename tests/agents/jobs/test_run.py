"""Comparisons on drawn tasks, with those who searched and those who train by themselves."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import automix.agents.contest.compare
from automix.agents.cli.tables import print_result
from automix.agents.config.draws import cells_of
from automix.agents.config.settings import HELD_OUT, VALIDATION, RunSettings
from automix.agents.contest.compare import Match, compare, matches_of, play_group
from automix.agents.contest.contestants import Contestant, Player, contestants_of
from automix.agents.contest.controls import CONTROLS, ControlInfo, SearchResult
from automix.agents.contest.own_training import OWN_TRAINING, Trained
from automix.agents.contest.run_controls import search
from automix.agents.contest.summary import score_table, summarise
from automix.agents.contest.validation import pick_fixed
from automix.agents.jobs.check import check
from automix.agents.jobs.run import run_compare, run_train
from automix.agents.parallel.worker import InlineWorker
from automix.core.errors import ConfigError
from automix.core.registry import Entry, Info
from automix.data.tasks import TaskSpec
from automix.envs.codec import ActionCodec, ActionSettings
from automix.envs.settings import EnvSettings
from automix.envs.worlds import ImageWorld, WorldSettings
from automix.mixing.actions import PLAIN, MixAction
from automix.policy.policy import MixPolicy, PolicyForm, save_policy
from tests.agents import tiny_run

MENU = ActionCodec(ActionSettings()).choices
CUTMIX = MixAction("cutmix", 0.5)
DRAWN = ("task.train_sizes=[40,80]", "compare.draws=3", "compare.seeds=2")


def drawn(*words: str) -> RunSettings:
    return tiny_run.settings(*DRAWN, *words)


@pytest.fixture
def found_by(monkeypatch) -> Callable[..., dict[str, Any]]:
    """Add a control ``seeker`` that finds what it is told; return what it was asked."""

    def seek(*schedule: MixAction) -> dict[str, Any]:
        asked: dict[str, Any] = {}

        def control(evaluator, epochs):
            asked.update(epochs=epochs, actions=evaluator.actions)
            return SearchResult(schedule, epochs, 7 * epochs)

        len(CONTROLS)  # what registers itself does so first
        entry = Entry("seeker", control, ControlInfo(least=lambda choices: 1))
        monkeypatch.setitem(CONTROLS._entries, "seeker", entry)
        return asked

    return seek


def always(action: str, cost: int) -> MixPolicy:
    """A policy that plays mixup@0.5, whatever it sees."""
    form = PolicyForm(
        observations=["progress"],
        observation_sizes=[1],
        methods=["none", "mixup"],
        ratios=[0.25, 0.5],
        saliency=["off"],
        space="flat",
        choices=["none", "mixup@0.25", "mixup@0.5"],
    )
    bias = np.array([choice == action for choice in form.choices], dtype=np.float32)
    about = {"learning": {"classifier_epochs": cost, "passes": 3 * cost}}
    return MixPolicy(form, [(np.zeros((3, 1), dtype=np.float32), bias)], about)


# Drawn tasks ------------------------------------------------------------------------------------


def test_a_drawn_task_keeps_its_images_over_its_trainings_and_nothing_else(monkeypatch, processes):
    resets: list[tuple[list[TaskSpec], list[int]]] = []
    table_reset = automix.agents.contest.compare.StackedGroups.reset

    def watched(table, specs, seeds):
        resets.append((list(specs), list(seeds)))
        return table_reset(table, specs, seeds)

    monkeypatch.setattr(automix.agents.contest.compare.StackedGroups, "reset", watched)
    settings = drawn("compare.contestants=[none,random]")
    trials = compare(settings, [InlineWorker()], "cpu", None)
    assert compare(settings, processes, "cpu", None) == trials, "whatever the workers"
    assert len(resets) == 3
    for specs, _ in resets:
        assert specs[0] == specs[1]
    seeds = [seed for _, own in resets for seed in own]
    assert len(set(seeds)) == 6
    assert [(t["seed"] - HELD_OUT, t["training"], t["contestant"]) for t in trials] == [
        (draw, training, name)
        for draw in range(3)
        for training in (0, 1)
        for name in ("none", "random")
    ]
    assert {t["task"] for t in trials} <= {*cells_of(settings.task)}
    none = score_table(trials, "none", drawn=True, key="val_accuracy")
    assert none.shape == (3, 2)
    curves = [t["val_curve"] for t in trials if t["contestant"] == "none"]
    assert all(curves[2 * draw] != curves[2 * draw + 1] for draw in range(3))


def test_the_first_training_of_a_drawn_task_is_the_one_it_has_alone():
    match = matches_of(drawn())[0]
    assert match.trainings == 2
    assert match.seed("trial", 0) == replace(match, trainings=1).seed("trial", 0)
    assert match.seed("trial", 0) != match.seed("trial", 1) != match.seed("players", 1)


def test_one_who_plays_as_another_differs_from_it_by_exactly_nothing(found_by):
    found_by(CUTMIX)
    settings = drawn("compare.contestants=[agent,fixed,seeker]", "compare.search_epochs=10")
    policy = always("mixup@0.5", 100)
    found = search(settings, [InlineWorker()], "cpu", 100)
    other = {"seeker": SearchResult((PLAIN,), 9, 8)}
    trials = compare(settings, [InlineWorker()], "cpu", policy, other)
    result = summarise(trials, settings, 100, 300, other)
    same = result["agent_minus"]["fixed:mixup@0.5"]
    assert (same["mean"], same["ci95"], same["above_zero"]) == (0.0, [0.0, 0.0], False)
    assert same["p_improvement"] == 0.5
    assert "fixed:mixup@0.5" in result["not_beaten"]
    assert found["seeker"].schedule == (CUTMIX,)


# Those who searched -----------------------------------------------------------------------------


def test_a_control_plays_what_it_found_stretched_over_the_budget():
    player = Player(Contestant("seeker", "control", (CUTMIX, PLAIN, CUTMIX)), MENU, None, 0)
    budget = 30
    played = [player.act(np.float32([epoch / budget])) for epoch in range(budget)]
    assert played == [CUTMIX] * 10 + [PLAIN] * 10 + [CUTMIX] * 10
    long = tuple(MixAction("mixup", ratio / 1000) for ratio in range(1, 301))
    player = Player(Contestant("seeker", "control", long), MENU, None, 0)
    assert tuple(player.act(np.float32([epoch / 300])) for epoch in range(300)) == long


def test_a_control_pays_for_its_search_and_has_as_long_as_the_agent_learned(
    found_by, tmp_path, capsys
):
    asked = found_by(CUTMIX, PLAIN)
    save_policy(tmp_path / "policy", always("mixup@0.5", 1000))
    words = ["compare.contestants=[agent,none,seeker,fixed:cutmix@0.5]", "compare.draws=6"]
    settings = replace(drawn(*words), policy=str(tmp_path / "policy"))
    result = run_compare(settings, tmp_path / "run")
    assert asked["epochs"] == 1000
    assert {action.method for action in asked["actions"]} == {"none", "mixup"}
    rows = {row["name"]: row for row in result["contestants"]}
    played = 6 * 2 * 2
    assert rows["none"]["epochs_spent"] == played
    assert rows["seeker"]["epochs_spent"] == rows["agent"]["epochs_spent"] == played + 1000
    trials = tiny_run.lines(tmp_path / "run" / "trials.jsonl")
    for name, extra in (("none", 0), ("seeker", 7000), ("agent", 3000)):
        own = [t for t in trials if t["contestant"] == name]
        passes = sum(t["forward_passes"] + t["backward_passes"] for t in own)
        assert rows[name]["passes"] == passes + extra
    assert rows["seeker"]["kind"] == "control"
    assert {tuple(t["mixes"]) for t in trials if t["kind"] == "control"} == {("cutmix@0.5", "none")}
    assert result["found"] == {"seeker": ["cutmix@0.5", "none"]}
    assert (result["draws"], result["trainings"], result["enough"]) == (6, 2, True)
    assert result["oracle"]["choices"] == 2
    beaten = {name for name, told in result["agent_minus"].items() if told["above_zero"]}
    assert {*result["not_beaten"]} == {"none", "seeker", "fixed:cutmix@0.5"} - beaten
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result

    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert "6 drawn held-out tasks \N{MULTIPLICATION SIGN} 2 training runs" in page
    assert "cutmix@0.5 \N{MULTIPLICATION SIGN} 1, none \N{MULTIPLICATION SIGN} 1" in page
    assert "Regret: how much better the best of 2 fixed choices" in page
    assert "whole tasks are drawn again" in page
    for cell in result["tasks"]:
        assert cell in page
    capsys.readouterr()
    print_result(result)
    text = capsys.readouterr().out
    assert "drawn tasks x training runs = 6 x 2" in text
    assert "Regret to each task's best of 2 fixed choices; picked on a task's other" in text
    unbeaten = ", ".join(result["not_beaten"])
    assert f"The agent does not beat: {unbeaten}." in text or not unbeaten


def test_a_search_that_nobody_limits_is_refused_before_anything_is_written(found_by, tmp_path):
    found_by(CUTMIX)
    settings = drawn("compare.contestants=[none,seeker]")
    with pytest.raises(ConfigError, match="seeker may search for as long as the agent") as error:
        run_compare(settings, tmp_path / "run")
    assert "compare.search_epochs=16" in error.value.hint
    assert not (tmp_path / "run").exists()
    check(drawn("compare.contestants=[none,seeker]", "compare.search_epochs=16"), False)


def test_in_training_the_search_lasts_as_long_as_the_learning_did(found_by, tmp_path):
    asked = found_by(CUTMIX)
    words = ("compare.contestants=[agent,none,seeker]", "compare.seeds=1", "compare.draws=1")
    result = run_train(drawn(*words), tmp_path / "run")
    assert asked["epochs"] == result["learning"]["classifier_epochs"] == 16
    assert result["enough"] is False
    assert {*result["not_beaten"]} == {"none", "seeker"}
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert "1 drawn task cannot show a difference: 6" in page
    assert "6 or more are needed" in page


# Those who train by themselves ------------------------------------------------------------------


def test_one_who_trains_by_itself_meets_the_same_task_weights_and_batches(monkeypatch):
    def train(world: ImageWorld, spec: TaskSpec, seed: int) -> Trained:
        population = world.start([spec])
        history = population.reset([seed])
        for _ in range(world.budget):
            history = [*history, *population.run_epoch([PLAIN])]
        return Trained(population, history, ["none"] * world.budget)

    len(OWN_TRAINING)
    monkeypatch.setitem(OWN_TRAINING._entries, "loner", Entry("loner", train, Info()))
    settings = tiny_run.settings()
    spec = TaskSpec(train_size=50, label_noise=0.2, seed=HELD_OUT + 1)
    contestants = contestants_of(["loner", "none", "random"], MENU)
    assert [c.kind for c in contestants] == ["own", "fixed", "random"]
    match = Match(spec=spec, task=spec.kind, trainings=2)
    world, env = WorldSettings(settings.task, settings.trainer), EnvSettings()
    trials = play_group({}, world, env, "cpu", contestants, None, match)
    assert [t["contestant"] for t in trials] == ["loner", "none", "random"] * 2
    for loner, none in (trials[:2], trials[3:5]):
        assert loner.pop("contestant") == "loner"
        assert loner.pop("kind") == "own"
        for key, value in loner.items():
            if isinstance(value, float):
                assert math.isclose(value, none[key], abs_tol=0.02)
            elif key not in ("val_curve", "partner_share"):
                assert value == none[key]
    alone = play_group({}, world, env, "cpu", contestants[:1], None, match)
    assert [t["training"] for t in alone] == [0, 1]


# Picking the best fixed choice ------------------------------------------------------------------


def test_the_best_fixed_choice_is_picked_on_tasks_of_its_own_without_the_test_split(monkeypatch):
    def forbidden(population):
        raise AssertionError("the test split is not for picking")

    monkeypatch.setattr(automix.agents.contest.compare, "test_scores", forbidden)
    contestants = "compare.contestants=[none,random,fixed:mixup@0.25]"
    settings = drawn("compare.validation_draws=3", contestants)
    played: list[Match] = []
    monkeypatch.setattr(
        "automix.agents.contest.validation.play_matches",
        lambda matches, *rest, **more: (
            played.extend(matches)
            or automix.agents.contest.compare.play_matches(matches, *rest, **more)
        ),
    )
    picked = pick_fixed(settings, EnvSettings(), [InlineWorker()], "cpu")
    assert [match.spec.seed for match in played] == [VALIDATION + i for i in range(3)]
    assert {*picked.by_contestant} == {"none", "fixed:mixup@0.25"}
    assert picked.by_contestant[picked.name] == max(picked.by_contestant.values())
    assert (picked.tasks, picked.classifier_epochs) == (3, 3 * 2 * 2)
    assert pick_fixed(drawn(), EnvSettings(), [InlineWorker()], "cpu") is None


def test_what_was_picked_elsewhere_stands_whatever_the_compared_tasks_say(monkeypatch, tmp_path):
    settings = drawn("compare.contestants=[none,fixed:mixup@0.25]", "compare.validation_draws=2")
    result = run_compare(settings, tmp_path / "run")
    picked = result["best_fixed_picked"]
    assert result["best_fixed"] == picked["name"]
    assert (picked["tasks"], picked["classifier_epochs"]) == (2, 8)
    here = run_compare(drawn("compare.contestants=[none,fixed:mixup@0.25]"), tmp_path / "here")
    assert here["best_fixed_picked"]["tasks"] == 0
    rows = {row["name"]: row["val_accuracy"] for row in here["contestants"]}
    assert here["best_fixed"] == max(rows, key=rows.get)
