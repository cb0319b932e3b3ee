"""Groups that train together: each is what it would be alone; actions of some epochs; forks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from automix.core.errors import ConfigError
from automix.data.tasks import TaskSpec
from automix.envs import EnvSettings, MixEnv, MixVectorEnv, SurrogateMixEnv, SurrogateVectorEnv
from automix.envs.groups import Fork, StackedGroups
from automix.envs.surrogate import SurrogateWorld
from automix.mixing.actions import PLAIN, MixAction
from tests.envs import worlds

CUTMIX, RMIX = MixAction("cutmix", 0.5), MixAction("rmix", 0.25, "gradient")
PLAYS = [
    [CUTMIX, PLAIN, RMIX, CUTMIX, PLAIN, PLAIN],
    [MixAction("mixup", 0.1), RMIX, CUTMIX, CUTMIX, RMIX, PLAIN],
]
SPECS = [
    TaskSpec(train_size=40, label_noise=0.3, seed=1),
    TaskSpec(train_size=60, label_noise=0.0, seed=2),
    TaskSpec(train_size=40, label_noise=0.3, seed=1),
]
SEEDS = [5, 6, 7]
BASELINES = ["none", "group", "reference"]


def together(world, settings, plays=PLAYS):
    """All observations and rewards, (groups, members, ...) each, and the groups."""
    stacked = StackedGroups(world, settings, 2, 3)
    told = [stacked.reset(SPECS, SEEDS).reshape(3, 2, -1)]
    for actions in plays:
        results = stacked.step(actions)
        told += [np.stack([result.observations for result in results])]
        told += [np.stack([result.rewards for result in results])]
        assert [result.played for result in results] == [actions[:2], actions[2:4], actions[4:]]
        assert [len(result.metrics) for result in results] == [2, 2, 2]
    return told, stacked


def alone(world, settings, plays=PLAYS):
    told, groups = [], []
    for g, (spec, seed) in enumerate(zip(SPECS, SEEDS, strict=True)):
        one = StackedGroups(world, settings, 2)
        own = [one.reset([spec], [seed])]
        for actions in plays:
            (result,) = one.step(actions[2 * g : 2 * g + 2])
            own += [result.observations, result.rewards]
        told.append(own)
        groups += one.groups
    return [np.stack(parts) for parts in zip(*told, strict=True)], groups


@pytest.mark.parametrize("baseline", BASELINES)
def test_groups_are_those_alone(baseline):
    """In closed form exactly; real ones up to the order in which floats are added."""
    settings = worlds.settings(baseline=baseline, name="loss_gain", reference="mixup@0.3")
    plays = [*PLAYS, PLAYS[0]]
    told, stacked = together(SurrogateWorld(3), settings, plays)
    apart, groups = alone(SurrogateWorld(3), settings, plays)
    for one, other in zip(told, apart, strict=True):
        assert_array_equal(one, other)
    for one, other in zip(stacked.groups, groups, strict=True):
        assert one.mixes == other.mixes
        assert one.histories == other.histories
        assert one.spec == other.spec
    told, stacked = together(worlds.image_world(), settings)
    apart, groups = alone(worlds.image_world(), settings)
    for one, other in zip(told, apart, strict=True):
        assert_allclose(one, other, rtol=2e-3, atol=2e-3)
    assert stacked.training.members == 3 * (3 if baseline == "reference" else 2)
    for one, other in zip(stacked.groups, groups, strict=True):
        for own, wanted in zip(one.histories, other.histories, strict=True):
            for got, record in zip(own, wanted, strict=True):
                assert got.forward_passes == record.forward_passes
                assert got.partner_share == pytest.approx(record.partner_share, abs=1e-6)


def test_a_reference_plays_its_own_action_in_every_group():
    settings = worlds.settings(baseline="reference", reference="cutmix@0.5")
    told, _ = together(SurrogateWorld(2), settings, [[CUTMIX] * 6, [CUTMIX] * 6])
    assert_allclose(told[2], 0, atol=1e-12)
    assert_allclose(told[4], 0, atol=1e-12)
    other, _ = together(SurrogateWorld(2), settings, [[PLAIN] * 6, [PLAIN] * 6])
    # With wrong labels no mixing loses against it, with clean ones it wins.
    assert (other[2][[0, 2]] < -0.01).all()
    assert (other[2][1] > 0.01).all()


def test_groups_on_one_task_share_stacks_and_not_their_numbers():
    stacked = StackedGroups(worlds.image_world(), worlds.settings(), 2, 2)
    observations = stacked.reset([SPECS[0], SPECS[0]], [5, 6])
    assert_array_equal(observations[0], observations[1])
    assert not np.array_equal(observations[0], observations[2])
    assert len({id(ensemble) for ensemble, _ in stacked.training._places}) == 1
    assert len({id(task) for task in stacked.training.tasks}) == 1


# Groups of one environment ----------------------------------------------------------------------


def real_groups(groups, size=2):
    return MixVectorEnv(size, worlds.image_world(), worlds.settings(), groups)


def test_members_of_a_group_share_a_task_and_groups_do_not():
    env = real_groups(3)
    assert (env.num_envs, env.group_size, env.task_kinds) == (6, 2, [])
    observations, info = env.reset(seed=2)
    seeds = info["task"]["seed"]
    assert len(set(seeds)) == 3
    for group in range(3):
        first = 2 * group
        assert seeds[first] == seeds[first + 1]
        assert_array_equal(observations[first], observations[first + 1])
    assert len({observations[member].tobytes() for member in range(6)}) == 3
    assert env.task_kinds == [
        f"{size} images, {100 * noise:g}% noise"
        for size, noise in zip(info["task"]["train_size"], info["task"]["label_noise"], strict=True)
    ]


def test_an_environment_plays_the_groups_that_it_draws():
    env = SurrogateVectorEnv(2, 3, worlds.settings(), groups=3)
    observations, info = env.reset(seed=4)
    world = SurrogateWorld(3)
    specs, seeds = [], []
    for first in (4, 6, 8):  # environment i is seeded with 4 + i, and a group by its first
        rng = np.random.default_rng(first)
        specs.append(world.draw(rng))
        seeds.append(int(rng.integers(2**31)))
    assert info["task"]["seed"].tolist() == [spec.seed for spec in specs for _ in range(2)]
    stacked = StackedGroups(world, worlds.settings(), 2, 3)
    assert_array_equal(observations, stacked.reset(specs, seeds))
    codec = stacked.groups[0].codec
    actions = np.stack([codec.encode(action) for action in codec.choices[2:8]])
    observations, rewards, ended, truncated, infos = env.step(actions)
    results = stacked.step(codec.choices[2:8])
    assert_array_equal(observations, np.concatenate([one.observations for one in results]))
    assert_array_equal(rewards, np.concatenate([one.rewards for one in results]))
    assert list(infos["mix"]) == [str(action) for action in codec.choices[2:8]]
    assert ended.shape == truncated.shape == (6,)


@pytest.mark.parametrize("groups", [1, 2, 5])
def test_what_an_episode_will_cost_is_known_before_it_starts(groups):
    """And asking draws nothing: the episode is the one that it would have been."""
    env, unasked = real_groups(groups), real_groups(groups)
    for seed in range(4):
        seeds = list(range(seed, seed + env.num_envs))
        work = env.drawn_work(seeds)
        _, info = env.reset(seed=seeds)
        assert work == worlds.BUDGET * 64 * info["task"]["train_size"][::2].sum()
        assert_array_equal(info["task"]["seed"], unasked.reset(seed=seed)[1]["task"]["seed"])
    costs = [env.drawn_work(list(range(s, s + env.num_envs))) for s in range(30)]
    images = {40 * groups + 20 * large for large in range(groups + 1)}
    assert set(costs) <= {worlds.BUDGET * 64 * count for count in images}
    assert len(set(costs)) > 1


# Actions of some epochs ---------------------------------------------------------------------------


def scripted(curves, settings):
    groups = StackedGroups(worlds.ScriptedWorld(curves), settings, 1)
    return groups, groups.reset([groups.world.draw(np.random.default_rng(0))], [0])


def test_an_episode_takes_as_many_actions_as_fit_into_its_budget():
    for every, steps in ((1, 7), (2, 4), (3, 3), (7, 1), (9, 1)):
        settings = EnvSettings(epochs_per_action=every)
        assert settings.steps(7) == steps
        env = SurrogateMixEnv(7, settings)
        env.reset(seed=0)
        ends = [env.step(env.action_space.sample())[2] for _ in range(steps)]
        assert ends == [False] * (steps - 1) + [True]
    with pytest.raises(ConfigError, match=r"env\.epochs_per_action is 0, wanted 1 or more"):
        EnvSettings(epochs_per_action=0)


def test_mixes_are_listed_epoch_by_epoch_and_gains_are_those_since_the_last_action():
    groups, _ = scripted([[0.1, 0.9, 0.3, 0.9, 0.7, 0.6]], EnvSettings(epochs_per_action=2))
    results = [groups.step([action])[0] for action in (CUTMIX, PLAIN, CUTMIX)]
    assert [result.finished for result in results] == [False, False, True]
    assert_allclose([result.rewards[0] for result in results], [2.0, 4.0, -1.0])
    assert groups.groups[0].mixes == [["cutmix@0.5"] * 2 + ["none"] * 2 + ["cutmix@0.5"]]


def test_played_epoch_by_epoch_the_same_is_seen_when_an_action_is_due():
    """``compare`` trains everybody epoch by epoch, whatever pace a policy was learned at."""
    names = ("progress", "val_accuracy", "val_accuracy_change", "val_accuracy_history")
    settings = EnvSettings(observations=names, epochs_per_action=2)
    curves = [[0.1, 0.3, 0.2, 0.6, 0.5, 0.9, 0.8]]
    (slow, first), (quick, other) = (scripted(curves, settings) for _ in range(2))
    assert_array_equal(first, other)
    for _ in range(3):
        quick.step([CUTMIX], epochs=1)
        shown = [one[0].observations for one in (slow.step([CUTMIX]), quick.step([CUTMIX], 1))]
        assert_array_equal(*shown)


def test_real_training_runs_end_the_same_measured_often_or_once():
    env = worlds.settings("flat")
    ends = []
    for every in (1, worlds.BUDGET):
        one = MixEnv(worlds.image_world(), replace(env, epochs_per_action=every))
        one.reset(seed=3)
        for _ in range(worlds.BUDGET // every):
            *_, info = one.step(np.asarray(4))
        ends.append(info["metrics"])
    often, once = ends
    for name in ("val_accuracy", "val_loss", "val_calibrated_loss", "train_loss", "gradient_norm"):
        assert once[name] == often[name], name
    assert once["backward_passes"] == worlds.BUDGET * often["backward_passes"]


# Forks --------------------------------------------------------------------------------------------

FORKING = replace(worlds.settings(), fork=True)
ACTIONS = {"cutmix": [2, 2, 0], "none": [0, 0, 0], "rmix": [3, 2, 0]}


def stepped(env, *names):
    return env.step(np.array([ACTIONS[name] for name in names]))


def test_each_group_forks_once_and_all_but_the_donor_are_truncated():
    for seed in range(5):
        env, rng = SurrogateVectorEnv(3, 6, FORKING, groups=4), np.random.default_rng(seed)
        env.reset(seed=seed)
        truncations = []
        for epoch in range(6):
            actions = rng.integers(env.single_action_space.nvec, size=(env.num_envs, 3))
            shown, _, ended, truncated, infos = env.step(actions)
            truncations.append(truncated)
            assert ended.all() == ended.any() == (epoch == 5)
            for own in () if ended.all() else np.arange(12).reshape(4, 3):
                if truncated[own].any():
                    (donor,) = np.flatnonzero(~truncated[own])
                    final = infos["final_obs"][own]
                    assert_array_equal(shown[own], np.stack([final[donor]] * 3))
        assert_array_equal(np.sum(truncations, 0).reshape(4, 3).sum(1), [2] * 4)
        assert not truncations[-1].any(), "a fork after the last action would change nothing"


def test_members_that_play_alike_after_the_fork_end_alike_bit_for_bit():
    env = MixVectorEnv(3, worlds.image_world(), FORKING)
    env.reset(seed=4)
    *_, truncated, infos = stepped(env, "cutmix", "none", "rmix")
    assert truncated.sum() == 2
    assert len(set(infos["metrics"]["val_loss"])) == 3
    (group,) = env._groups.groups
    (donor,) = np.flatnonzero(~truncated)
    assert group.mixes == [[["cutmix@0.5"], ["none"], ["rmix@0.5"]][donor]] * 3
    assert group.histories[0] == group.histories[1] == group.histories[2]
    *_, infos = stepped(env, "cutmix", "cutmix", "rmix")
    first, second, third = infos["final_info"]["metrics"]["val_loss"]
    assert first == second != third


def test_a_fork_comes_before_an_action_and_never_at_an_end():
    assert {Fork.draw(seed, [0, 4, 8], 2).epoch for seed in range(50)} == {4, 8}
    assert Fork.draw(0, [0], 2) is None
    with pytest.raises(ConfigError, match=r"env\.fork is true"):
        MixEnv(worlds.image_world(), FORKING)
