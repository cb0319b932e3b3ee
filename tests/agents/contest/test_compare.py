"""Who plays, on what terms, and what is made of the scores."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from automix.agents.config.settings import HELD_OUT, CompareSettings, RunSettings
from automix.agents.contest.compare import Match, compare, env_of, play_group
from automix.agents.contest.contestants import Contestant, Player, contestants_of
from automix.agents.contest.schedules import SCHEDULES
from automix.agents.contest.summary import score_table, summarise
from automix.agents.jobs.check import with_actions_of
from automix.agents.jobs.run import run_compare
from automix.agents.parallel.worker import InlineWorker
from automix.core.errors import ConfigError, DataError
from automix.data.tasks import TaskSpec
from automix.envs import ActionCodec, ActionSettings, EnvSettings
from automix.envs.groups import StackedGroups
from automix.envs.worlds import WorldSettings
from automix.mixing.actions import MixAction
from automix.policy.policy import MixPolicy, PolicyForm
from tests.agents import tiny_run

MENU = ActionCodec(ActionSettings()).choices
RATIOS = ("0.1", "0.25", "0.5")


# Contestants ------------------------------------------------------------------------------------


def names(*asked: str, menu=MENU) -> list[str]:
    return [contestant.name for contestant in contestants_of(asked, menu)]


def test_fixed_alone_stands_for_every_mix_of_the_menu():
    assert names("fixed") == [f"fixed:{m}@{r}" for m in ("mixup", "cutmix", "rmix") for r in RATIOS]
    guided = ActionCodec(ActionSettings(methods=("none", "rmix"), saliency=("spectral",))).choices
    spectral = [f"fixed:rmix@{ratio}+spectral" for ratio in RATIOS]
    assert names("none", "fixed", menu=guided) == ["none", *spectral]


def test_everybody_has_the_kind_that_the_report_groups_by():
    asked = ("agent", "none", "random", "mix_then_none", "fixed:cutmix@0.25")
    kinds = [contestant.kind for contestant in contestants_of(asked, MENU)]
    assert kinds == ["agent", "fixed", "random", "schedule", "fixed"]


def test_every_schedule_is_a_contestant_by_its_name():
    assert names(*SCHEDULES) == list(SCHEDULES)


def test_a_fixed_choice_has_one_name_however_it_is_written():
    for written, name in (
        ("fixed:cutmix", "fixed:cutmix@0.5"),
        ("fixed:cutmix@0.50", "fixed:cutmix@0.5"),
        ("fixed:mixup@0.33", "fixed:mixup@0.33"),
        ("fixed:rmix@0.5+gradient", "fixed:rmix@0.5+gradient"),
        ("fixed:none", "none"),
        ("fixed:mixup@0", "none"),
    ):
        assert names(written) == [name], written


def test_contestants_that_cannot_play_are_refused():
    for asked, told in (
        (("none", "none"), "names none twice"),
        (("fixed", "fixed:cutmix@0.5"), "names fixed:cutmix@0.5 twice"),
        (("none", "fixed:mixup@0"), "names none twice"),
        (("agnet",), "'agnet' is not a contestant. Did you mean 'agent'"),
        (("mix_than_none",), "'mix_than_none' is not .* 'mix_then_none'"),
        (("cutmix@0.5",), "'cutmix@0.5' is not a contestant"),
        (("fixed:cutmx@0.5",), "'cutmx' is not a mix.* 'cutmix'"),
        (("fixed:cutmix@0.7",), "the ratio of cutmix is 0.7, wanted 0 to 0.5"),
        (("fixed:cutmix@",), "'cutmix@' is not a mix action"),
        (("fixed:",), "'' is not a mix action"),
        (("fixed:cutmix@0.5+gradeint",), "'gradeint' .* 'gradient'"),
    ):
        with pytest.raises(ConfigError, match=told):
            contestants_of(asked, MENU)


def test_a_player_draws_from_its_own_trial_and_name_only():
    def draws(name: str, seed: int) -> list[MixAction]:
        player = Player(Contestant(name, "random"), MENU, None, seed)
        return [player.act(np.array([0.0])) for _ in range(12)]

    assert draws("random", 1) == draws("random", 1)
    assert draws("random", 1) != draws("random", 2)


def test_a_fixed_contestant_plays_its_choice_also_off_the_menu():
    player = Player(Contestant("fixed:mixup@0.33", "fixed"), MENU, None, 0)
    assert player.act(np.array([0.9])) == MixAction("mixup", 0.33)


# Playing ----------------------------------------------------------------------------------------


def play(*asked: str, **changes: Any) -> dict[str, dict[str, Any]]:
    """Play one held-out task; return the trial of each."""
    settings = tiny_run.settings()
    spec = TaskSpec(train_size=50, label_noise=0.2, seed=HELD_OUT + 1)
    trainer, match = replace(settings.trainer, **changes), Match(spec=spec, task=spec.kind)
    everybody = contestants_of(asked, MENU)
    trials = play_group(
        {}, WorldSettings(settings.task, trainer), EnvSettings(), "cpu", everybody, None, match
    )
    return {trial["contestant"]: trial for trial in trials}


def test_a_result_does_not_depend_on_who_else_plays():
    few = play("random", "fixed:cutmix@0.5")
    many = play("none", "fixed:cutmix@0.5", "alternating", "fixed:rmix@0.25+spectral", "random")
    for name, trial in few.items():
        other = many[name]
        assert trial["mixes"] == other["mixes"]
        assert_allclose(trial["val_curve"], other["val_curve"], atol=0.035)  # one image of 30
        assert_allclose(trial["partner_share"], other["partner_share"], atol=1e-6)
        assert_allclose(trial["test_accuracy"], other["test_accuracy"], atol=0.01)
        assert trial["forward_passes"] == other["forward_passes"]


def test_a_trial_tells_what_was_played_and_what_it_cost():
    trials = play("none", "fixed:cutmix@0.5", "fixed:mixup@0.5+gradient")
    none, cutmix, guided = trials.values()
    assert none["mixes"] == ["none", "none"]
    assert cutmix["mixes"] == ["cutmix@0.5"] * 2
    assert none["task"] == "50 images, 20% noise"
    assert none["seed"] == HELD_OUT + 1
    assert none["partner_share"] == [0.0, 0.0]
    assert len(none["val_curve"]) == 3
    assert none["val_curve"][0] == cutmix["val_curve"][0]
    # 2 epochs of 50 images; measured 3 times on 20 probe and 30 validation images.
    assert none["backward_passes"] == 2 * 50
    assert none["forward_passes"] == 2 * 50 + 3 * 50
    # Gradient saliency: one more pass in each direction over every training image.
    assert guided["backward_passes"] == none["backward_passes"] + 100
    assert guided["forward_passes"] == none["forward_passes"] + 100


def test_a_training_that_diverges_is_scored_as_knowing_nothing():
    trial = play("none", "fixed:cutmix@0.5", lr=1e30)["none"]
    assert trial["diverged"] is True
    assert trial["test_accuracy"] == 0.0
    assert trial["test_ece"] == 1.0
    assert np.isfinite(trial["val_curve"]).all()


def test_every_held_out_task_has_weights_batches_and_draws_of_its_own(monkeypatch):
    """Seeds are shared by its contestants and by nobody else; trials come kind by kind."""
    seeds = []
    reset = StackedGroups.reset

    def watched(table: StackedGroups, specs: list[TaskSpec], own: list[int]) -> np.ndarray:
        seeds.extend(own)
        return reset(table, specs, own)

    monkeypatch.setattr(StackedGroups, "reset", watched)
    settings = tiny_run.settings("compare.contestants=[none,random]")
    done, again = (compare(settings, [InlineWorker()], "cpu", None) for _ in range(2))
    assert again == done
    assert seeds[:4] == seeds[4:]
    assert len(set(seeds)) == 4
    assert [(t["task"], t["seed"] - HELD_OUT, t["contestant"]) for t in done] == [
        (task, seed, name)
        for task in ("40 images, 0% noise", "50 images, 30% noise")
        for seed in (0, 1)
        for name in ("none", "random")
    ]


def test_an_agent_without_a_policy_is_refused_before_anything_is_written(tmp_path):
    settings = tiny_run.settings("compare.contestants=[agent,none]")
    with pytest.raises(ConfigError, match="'agent' has no policy") as error:
        run_compare(settings, tmp_path / "x")
    assert "policy=" in error.value.hint
    assert not (tmp_path / "x").exists()


def policy_that_sees(observations: list[str], sizes: list[int]) -> MixPolicy:
    form = PolicyForm(
        observations=observations,
        observation_sizes=sizes,
        methods=["none", "mixup"],
        ratios=[0.5],
        saliency=["off"],
        space="factored",
        choices=["none", "mixup@0.5"],
    )
    weight = np.zeros((4, sum(sizes)), dtype=np.float32)
    return MixPolicy(form, [(weight, np.array([0, 1, 0, 0], dtype=np.float32))], {})


def test_a_policy_plays_through_the_interface_it_was_learned_with():
    settings = tiny_run.settings("compare.contestants=[agent,none]")
    policy = policy_that_sees(["progress", "last_method"], [1, 2])
    env = env_of(policy, settings)
    assert env.observations == ["progress", "last_method"]
    assert env.actions.methods == ["none", "mixup"]
    trials = compare(settings, [InlineWorker()], "cpu", policy)
    agents = [trial for trial in trials if trial["contestant"] == "agent"]
    assert [trial["mixes"] for trial in agents] == [["mixup@0.5"] * 2] * 4
    # Progress and one-hot last method, before each of two epochs; nobody else's are kept.
    assert [t["observations"] for t in agents] == [[[0.0, 0.0, 0.0], [0.5, 0.0, 1.0]]] * 4
    assert all("observations" not in t for t in trials if t["contestant"] == "none")


def test_a_policy_of_other_actions_than_are_offered_is_refused_by_their_names():
    policy = policy_that_sees(["progress", "last_method"], [1, 2])
    fitting = {"methods": "[none,mixup]", "ratios": "[0.5]", "saliency": "['off']"}
    words = {name: f"env.actions.{name}={value}" for name, value in fitting.items()}
    for name, value, told in (
        ("methods", "[none,cutmix,rmix]", "in methods it has mixup more and lacks cutmix, rmix"),
        ("ratios", "[0.25,0.5]", "in ratios it lacks 0.25"),
        ("saliency", "['off',spectral]", "in saliency it lacks spectral"),
    ):
        others = {**words, name: f"env.actions.{name}={value}"}.values()
        with pytest.raises(ConfigError, match=told) as error:
            env_of(policy, tiny_run.settings(*others))
        assert error.value.hint.startswith(f"set {' '.join(words.values())}, or")
    assert env_of(policy, tiny_run.settings(*words.values())).actions.methods == ["none", "mixup"]


def test_where_nothing_is_offered_everybody_plays_with_the_policys_actions():
    settings = tiny_run.settings("compare.contestants=[agent,fixed]")
    policy = policy_that_sees(["progress", "last_method"], [1, 2])
    assert list(with_actions_of(policy, settings).env.actions.methods) == ["none", "mixup"]
    settings = replace(settings, compare=replace(settings.compare, kinds=("40@0.0",), seeds=1))
    trials = compare(settings, [InlineWorker()], "cpu", policy)
    assert [trial["contestant"] for trial in trials] == ["agent", "fixed:mixup@0.5"]


def test_a_policy_that_cannot_be_asked_is_refused_before_it_plays():
    for observations, sizes, told in (
        (["progress", "val_los"], [1, 1], "'val_los' is not a.* 'val_loss'"),
        (["val_loss", "progress"], [1, 1], "wanted 'progress' first"),
        (["progress", "last_method"], [1, 3], r"sizes \[1, 3\], here they have \[1, 2\]"),
    ):
        with pytest.raises(DataError, match=f"the policy cannot be asked: .*{told}"):
            env_of(policy_that_sees(observations, sizes), tiny_run.settings())


# Summaries --------------------------------------------------------------------------------------


def trial(name: str, task: str, seed: int, test: float, val: float = 0.5) -> dict[str, Any]:
    kind = "agent" if name == "agent" else "fixed" if name.startswith("fixed") else "schedule"
    scores = {"test_accuracy": test, "test_ece": 0.1, "test_top5": None, "val_accuracy": val}
    passes = {"diverged": False, "forward_passes": 30, "backward_passes": 10}
    run = {"task": task, "seed": seed, "mixes": ["none"] * 7}
    return {"contestant": name, "kind": kind, **run, **scores, **passes}


SCORES = {
    "agent": [[0.6, 0.8], [0.3, 0.5]],
    "fixed:cutmix@0.5": [[0.5, 0.9], [0.4, 0.2]],
    "fixed:mixup@0.5": [[0.1, 0.2], [0.1, 0.2]],
    "ramp": [[0.2, 0.1], [0.1, 0.1]],
}
VALIDATION = {"fixed:cutmix@0.5": 0.55, "fixed:mixup@0.5": 0.65}
TRIALS = [
    trial(name, task, seed, SCORES[name][t][seed], VALIDATION.get(name, 0.9))
    for t, task in enumerate(("easy", "hard"))
    for seed in range(2)
    for name in SCORES
]
SETTINGS = RunSettings(compare=CompareSettings(resamples=100, seeds=2))


def summary() -> dict[str, Any]:
    return summarise(TRIALS, SETTINGS, epochs_learning=1000, passes=5000)


def test_rows_are_sorted_best_first_and_hold_what_the_table_shows():
    rows = summary()["contestants"]
    assert [row["name"] for row in rows] == list(SCORES)
    agent = rows[0]
    assert agent["iqm"] == pytest.approx(0.55)  # of 0.3 0.5 0.6 0.8, the middle half
    assert agent["mean"] == pytest.approx(0.55)
    assert agent["by_task"] == pytest.approx({"easy": 0.7, "hard": 0.4})
    assert agent["n"] == 4
    low, high = agent["ci95"]
    assert 0.3 <= low <= agent["iqm"] <= high <= 0.8


def test_the_best_fixed_choice_is_picked_by_validation_not_by_test():
    assert summary()["best_fixed"] == "fixed:mixup@0.5"
    rest = [trial for trial in TRIALS if trial["kind"] != "fixed"]
    assert summarise(rest, SETTINGS)["best_fixed"] is None


def test_differences_are_paired_by_task_and_seed():
    difference = summary()["agent_minus"]
    assert set(difference) == set(SCORES) - {"agent"}
    # 0.1, -0.1, -0.1, 0.3
    assert difference["fixed:cutmix@0.5"]["mean"] == pytest.approx(0.05)
    assert difference["ramp"]["p_improvement"] == 1.0
    # easy: 0.6 beats 0.5, 0.8 beats 0.5; hard: 0.3 beats 0.2, 0.5 beats both.
    assert difference["fixed:cutmix@0.5"]["p_improvement"] == pytest.approx((2 / 4 + 3 / 4) / 2)


def test_a_constant_difference_has_no_width_however_much_tasks_differ():
    shifted = [
        {**t, "contestant": "ramp", "kind": "schedule", "test_accuracy": t["test_accuracy"] - 0.05}
        for t in TRIALS
        if t["contestant"] == "agent"
    ]
    agent = [t for t in TRIALS if t["contestant"] == "agent"]
    difference = summarise([*agent, *shifted], SETTINGS)["agent_minus"]["ramp"]
    assert_allclose([difference["mean"], *difference["ci95"]], 0.05)


def test_a_table_of_scores_is_kinds_by_seeds():
    assert_allclose(score_table(TRIALS, "agent"), SCORES["agent"])
    assert_allclose(score_table(TRIALS, "ramp", key="test_ece"), [[0.1, 0.1]] * 2)
