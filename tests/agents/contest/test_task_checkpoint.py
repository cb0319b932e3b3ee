"""A piece of work that is cut off between two epochs goes on from there, with equal results."""

from __future__ import annotations

import pytest

from automix.agents.config.settings import HELD_OUT
from automix.agents.contest.compare import Match, play_group
from automix.agents.contest.contestants import contestants_of
from automix.agents.contest.controls.evaluator import Start, WorldMaker, play_block
from automix.agents.runs.result_cache import TaskCheckpoint
from automix.data.tasks import TaskSpec
from automix.envs import ActionCodec, ActionSettings, EnvSettings, ImageWorld
from automix.envs.worlds import WorldSettings
from automix.mixing.actions import MixAction
from automix.policy.policy import load_policy
from automix.policy.shipped import policy_folder
from automix.training.population import Population
from tests.agents import tiny_run

EPOCHS = 4
SETTINGS = tiny_run.settings(f"trainer.epochs={EPOCHS}", "trainer.saliency.refresh=2")
ACTION_SET = ActionCodec(ActionSettings()).choices
ACTIONS = [MixAction.parse(text) for text in ("none", "cutmix@0.5", "rmix@0.5+gradient", "none")]


def compared(checkpoint, *contestants, env=EnvSettings(), policy=None):  # noqa: B008 (frozen)
    spec = TaskSpec(train_size=50, label_noise=0.2, seed=HELD_OUT + 1)
    match = Match(spec=spec, task=spec.kind, trainings=2)
    chosen = contestants_of(contestants, ACTION_SET)
    return play_group(
        {},
        WorldSettings(SETTINGS.task, SETTINGS.trainer),
        env,
        "cpu",
        chosen,
        policy,
        match,
        checkpoint,
    )


def searched(checkpoint):
    worlds = WorldMaker(ImageWorld, (SETTINGS.task, SETTINGS.trainer, "cpu"))
    specs = [TaskSpec(train_size=40, label_noise=noise, seed=3) for noise in (0.0, 0.3)]
    starts = [Start(spec, seed) for seed, spec in enumerate(specs)]
    return play_block({}, worlds, starts, [ACTIONS, ACTIONS[::-1]], "accuracy_gain", checkpoint)


def shipped(checkpoint):
    """A policy, asked at every other epoch."""
    policy = load_policy(policy_folder("digits_full"))
    form = policy.form
    env = EnvSettings(
        actions=ActionSettings(
            methods=form.methods, ratios=form.ratios, saliency=form.saliency, space=form.space
        ),
        observations=form.observations,
        epochs_per_action=2,
    )
    return compared(checkpoint, "agent", "random", env=env, policy=policy)


def schedules(checkpoint):
    return compared(checkpoint, "none", "random", "mix_then_none", "alternating")


WORK = (schedules, searched, shipped)


@pytest.mark.parametrize("work", WORK)
def test_it_goes_on_where_it_was(tmp_path, monkeypatch, work):
    """Cut off after the first epoch, the second, and so on, of which nothing is done again."""
    whole = work(TaskCheckpoint())
    for done in range(1, EPOCHS):
        went_on(tmp_path / f"{done}.safetensors", monkeypatch, work, done, whole)


def went_on(path, monkeypatch, work, done, whole):
    run_epoch, played = Population.run_epoch, []

    def cut_off(population, *args):
        if len(played) == done:
            raise KeyboardInterrupt
        played.append(args)
        return run_epoch(population, *args)

    checkpoint = TaskCheckpoint(path, share=1.0)
    with monkeypatch.context() as patch:
        patch.setattr(Population, "run_epoch", cut_off)
        with pytest.raises(KeyboardInterrupt):
            work(checkpoint)
        played.clear()
        patch.setattr(
            Population, "run_epoch", lambda p, *args: played.append(args) or run_epoch(p, *args)
        )
        assert work(checkpoint) == whole
    assert len(played) == EPOCHS - done
