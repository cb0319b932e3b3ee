"""Learn, export, compare: the same bits again, whatever the workers, and every file in place."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import automix
import automix.agents.contest.compare
import automix.agents.jobs.run
from automix.agents.config.compose import load_settings
from automix.agents.config.settings import RunSettings
from automix.agents.contest.summary import schedule_of
from automix.agents.jobs.check import with_policy
from automix.agents.jobs.run import run_compare, run_train
from automix.agents.learning.recorder import RoundTotals
from automix.core.errors import AutomixError
from automix.envs import MixVectorEnv
from automix.mixing.actions import MixAction
from automix.policy.policy import load_policy
from automix.policy.schedule import load_schedule
from automix.policy.shipped import DEFAULT
from tests.agents import tiny_run
from tests.agents.tiny_run import lines
from tests.cases import each

CONTESTANTS = ["agent", "none", "random", "fixed:cutmix@0.5", "fixed:mixup@0.25"]
KINDS = ["40 images, 0% noise", "50 images, 30% noise"]


def result_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "result.json").read_text(encoding="utf-8"))


# The same again ---------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_run_is_equal_bit_for_bit_whatever_the_number_of_workers(run, tmp_path, workers):
    """And whatever state the global generators are in, which it leaves as they are."""
    torch.manual_seed(workers)
    np.random.seed(workers)  # noqa: NPY002 (the global state is what is tested)
    random.seed(workers)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    run_train(tiny_run.settings(f"workers={workers}"), tmp_path / "again")
    after = torch.get_rng_state(), np.random.get_state()[1], random.getstate()  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert np.array_equal(before[1], after[1])
    assert before[2] == after[2]
    for name in ("metrics.jsonl", "trials.jsonl", "export/policy.json", "export/schedule.yaml"):
        assert (tmp_path / "again" / name).read_bytes() == (run / name).read_bytes(), name


def test_another_seed_is_another_run(run, tmp_path):
    run_train(tiny_run.settings("seed=1"), tmp_path / "other")
    other = tmp_path / "other" / "metrics.jsonl"
    assert other.read_bytes() != (run / "metrics.jsonl").read_bytes()


def test_the_exported_policy_plays_as_the_agent_did(run, tmp_path):
    """Export, load, compare again: each trial is the same, the agent's too."""
    result = run_compare(tiny_run.settings(f"policy={run / 'export'}"), tmp_path / "replay")
    replayed = tmp_path / "replay" / "trials.jsonl"
    assert replayed.read_bytes() == (run / "trials.jsonl").read_bytes()
    assert result["learning"] is None
    assert result["agent_minus"] == result_of(run)["agent_minus"]
    # The policy carries what it cost to learn.
    assert result["contestants"] == result_of(run)["contestants"]


# Files ------------------------------------------------------------------------------------------


def test_a_finished_run_says_so_and_leaves_no_temporary_file(run):
    """``tests/test_docs.py`` has the files of a run, and the keys of its records."""
    assert [str(path) for path in run.rglob(".*")] == []
    status = json.loads((run / "status.json").read_text(encoding="utf-8"))
    assert status["state"] == "finished"
    assert "error" not in status


def test_there_is_one_record_an_update_and_nothing_in_it_depends_on_the_clock(run):
    records = lines(run / "metrics.jsonl")
    assert [record["update"] for record in records] == [1, 2]
    assert [record["timesteps"] for record in records] == [8, 16]
    assert [record["episodes"] for record in records] == [4, 8]
    for record in records:
        trained = {f"{size} images, {noise}% noise" for size in (40, 60) for noise in (0, 30)}
        assert set(record["by_kind"]) <= trained
        kinds = record["by_kind"].values()
        assert sum(kind["episodes"] for kind in kinds) == 4
        mean = sum(kind["episodes"] * kind["val_accuracy"] for kind in kinds) / 4
        assert record["val_accuracy"] == pytest.approx(mean)
        for kind in kinds:
            assert sum(kind["play"].values()) == pytest.approx(1.0)
        # All but unlearned: near the entropy of a uniform choice of method and of ratio.
        assert record["agent"]["entropy"] == pytest.approx(math.log(4) + math.log(3), abs=0.05)
        assert record["agent"]["approx_kl"] < 0.1


def test_the_cost_of_learning_is_counted(run):
    learning = result_of(run)["learning"]
    assert learning["updates"] == 2
    assert learning["episodes"] == 8
    assert learning["classifier_epochs"] == 16
    # At least: 16 epochs of 40 images forward and backward, 50 more forward to measure.
    assert 16 * (2 * 40 + 50) <= learning["passes"] <= 16 * (2 * 60 + 50)


def test_the_result_has_the_form_that_others_read(run):
    result = result_of(run)
    assert result["wall_s"] > 0
    assert sorted(row["name"] for row in result["contestants"]) == sorted(CONTESTANTS)
    for row in result["contestants"]:
        assert row["kind"] in ("agent", "fixed", "random", "schedule")
        assert row["n"] == 4
        low, high = row["ci95"]
        assert 0 <= low <= row["iqm"] <= high <= 1
        learning = 16 if row["name"] == "agent" else 0
        assert row["epochs_spent"] == 4 * 2 + learning
    assert set(result["agent_minus"]) == set(CONTESTANTS) - {"agent"}
    for difference in result["agent_minus"].values():
        low, high = difference["ci95"]
        assert low <= difference["mean"] <= high
        assert 0 <= difference["p_improvement"] <= 1
    assert result["tasks"] == KINDS


def test_the_exported_schedule_is_what_most_trials_played(run):
    """``test_export.py`` has how it is counted."""
    schedule, wanted = load_schedule(run / "export"), schedule_of(lines(run / "trials.jsonl"))
    assert set(schedule.by_kind) == set(KINDS)
    assert (schedule.actions, schedule.by_kind) == (wanted.actions, wanted.by_kind)


def test_the_policy_says_where_it_comes_from(run):
    policy = load_policy(run / "export")
    learning = result_of(run)["learning"]
    observed = policy.about.pop("observed")
    assert observed["progress"] == [0.0, 0.0, 0.5, 0.5]
    assert list(observed) == policy.form.observations
    for least, low, high, most in observed.values():
        assert least <= low <= high <= most
    assert policy.about == {
        "automix": automix.__version__,
        "dataset": "digits",
        "train_sizes": [40, 60],
        "label_noise": [0.0, 0.3],
        "model": "small_cnn_w8",
        "budget": 2,
        "agent": "ppo",
        "seed": 0,
        "learning": {name: learning[name] for name in ("classifier_epochs", "passes")},
    }
    methods = {MixAction.parse(choice).method for choice in policy.form.choices}
    assert methods == {"none", "mixup", "cutmix", "rmix"}


def test_the_whole_agent_is_kept_without_pickle(run):
    tensors = load_file(run / "checkpoints" / "final" / "agent.safetensors")
    exported = load_policy(run / "export").layers
    assert np.array_equal(tensors["action_net.weight"].numpy(), exported[-1][0])
    assert any(name.startswith("mlp_extractor.value_net") for name in tensors)


# Endings ----------------------------------------------------------------------------------------


@each(
    "error, state",
    [
        (RuntimeError("something broke"), "failed"),
        (KeyboardInterrupt("stop"), "interrupted"),
        (SystemExit(143), "interrupted"),
    ],
)
def test_a_run_that_ends_early_says_so_and_where(tmp_path, monkeypatch, error, state):
    def breaks(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(automix.agents.jobs.run, "learn", breaks)
    with pytest.raises(type(error)):
        run_train(tiny_run.settings(), tmp_path / "run")
    status = json.loads((tmp_path / "run" / "status.json").read_text(encoding="utf-8"))
    assert status["state"] == state
    assert status["error"] == str(error)
    log = (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")
    assert "Traceback" in log
    assert "in breaks" in log
    assert not (tmp_path / "run" / "result.json").exists()


def test_trainings_that_diverge_are_outcomes_and_the_run_ends_with_its_table(tmp_path):
    words = ("trainer.lr=1e30", "compare.contestants=[agent,none]", "agent.total_timesteps=8")
    result = run_train(tiny_run.settings(*words), tmp_path / "run")
    (record,) = lines(tmp_path / "run" / "metrics.jsonl")
    assert record["diverged"] == 4
    for layer in load_policy(tmp_path / "run" / "export").layers:
        assert np.isfinite(layer[0]).all()
    assert [row["diverged"] for row in result["contestants"]] == [4, 4]
    assert result["agent_minus"]["none"]["mean"] == 0.0


def test_the_test_split_is_read_once_a_trial_after_the_last_epoch(tmp_path, monkeypatch):
    finished = []
    real = automix.agents.contest.compare.test_scores

    def watched(population: Any) -> Any:
        finished.append(population.state_dict()["members"][0]["epoch"])
        return real(population)

    monkeypatch.setattr(automix.agents.contest.compare, "test_scores", watched)
    run_compare(tiny_run.settings("compare.contestants=[none,random]"), tmp_path / "run")
    assert finished == [2] * 4  # once for each of 2 kinds x 2 seeds, after both epochs


def test_a_comparison_without_a_policy_takes_the_one_that_comes_along():
    assert with_policy(RunSettings(), named=False) == RunSettings(policy=DEFAULT)
    others = tiny_run.settings("compare.contestants=[none,random]")
    assert with_policy(others, named=True) is others
    given = RunSettings(policy="runs/x/export")
    assert with_policy(given, named=False) is given


def test_where_that_policy_cannot_play_the_agent_is_left_out_and_that_is_said(caplog):
    for word, why in (
        ("trainer.epochs=4", "5 decisions"),
        ("env.actions.methods=[none,fmix]", "other actions"),
    ):
        field = load_settings([word])
        left = with_policy(field, named=False)
        assert left.policy == ""
        assert left.compare.contestants == field.compare.contestants[1:]
        assert "agent is left out: " in caplog.text
        assert why in caplog.text
        caplog.clear()
        named = with_policy(field, named=True)  # what cannot be done is refused later
        assert named == replace(field, policy=DEFAULT)


def test_a_reward_that_is_not_finite_is_told_with_environment_and_step(tmp_path, monkeypatch):
    step = MixVectorEnv.step

    def broken(self: MixVectorEnv, actions: np.ndarray) -> Any:
        observations, rewards, *rest = step(self, actions)
        rewards[1] = np.nan
        return observations, rewards, *rest

    monkeypatch.setattr(MixVectorEnv, "step", broken)
    with pytest.raises(AutomixError, match="reward of environment 1 at step 4 is not finite"):
        run_train(tiny_run.settings(), tmp_path / "run")


def test_a_round_adds_up_what_its_episodes_showed():
    done = RoundTotals()
    for mix, accuracy, over in (("none", 0.2, False), ("cutmix@0.5", 0.6, True)):
        info = {"task": "a", "mix": mix, "passes": 10, "epochs": 3}
        info |= {"val_accuracy": accuracy, "diverged": False}
        done.add(info, over)
    info |= {"task": "b: 40 images", "mix": "none", "passes": 5}
    done.add(info | {"val_accuracy": 0.4, "diverged": True}, True)
    assert done.episodes == 2
    assert done.epochs == 9
    assert done.passes == 25
    assert done.summary() == {
        "val_accuracy": pytest.approx(0.5),
        "diverged": 1,
        "by_kind": {
            "a": {"episodes": 1, "val_accuracy": 0.6, "play": {"cutmix@0.5": 0.5, "none": 0.5}},
            "b": {"episodes": 1, "val_accuracy": 0.4, "play": {"none": 1.0}},
        },
    }
