"""One training or a group of them: what the members share, and what they do not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from numpy.testing import assert_allclose, assert_array_equal

from automix.data.image_set import InMemory
from automix.data.tasks import TaskFamily
from automix.envs import ImageWorld, MixEnv, MixVectorEnv
from tests.envs import worlds

NONE, CUTMIX, RMIX = np.array([0, 0, 0]), np.array([2, 2, 0]), np.array([3, 1, 2])


def group_of(size: int, world: ImageWorld | None = None, **reward: Any) -> MixVectorEnv:
    return MixVectorEnv(size, world or worlds.image_world(), worlds.settings(**reward))


def play(group: MixVectorEnv, *epochs: list[np.ndarray], seed: int = 3) -> list[Any]:
    """Reset and play; return (observations at the start, rewards, observations, infos) parts."""
    found: list[Any] = [group.reset(seed=seed)[0]]
    for actions in epochs:
        observations, rewards, ended, _, infos = group.step(np.stack(actions))
        found += [infos["final_obs"] if ended.all() else observations, rewards]
    return found


def test_equal_actions_make_equal_trainings_bit_for_bit():
    """Also beside a member that plays something else."""
    group = group_of(3, baseline="none", name="loss_gain")
    for part in play(group, [CUTMIX, NONE, CUTMIX], [RMIX, CUTMIX, RMIX]):
        assert_array_equal(part[0], part[2])


def test_members_start_from_the_same_weights_on_the_same_task():
    observations = group_of(4).reset(seed=11)[0]
    for member in range(1, 4):
        assert_array_equal(observations[member], observations[0])


def test_other_actions_make_another_training():
    start, first, *_ = play(group_of(2), [CUTMIX, NONE])
    assert_array_equal(start[0], start[1])
    assert not np.allclose(first[0], first[1])


def test_a_member_does_not_depend_on_what_the_others_play():
    """Up to the order in which floats are added."""
    alike, mixed = (
        play(group_of(3, name="loss_gain"), [CUTMIX, other, other], [RMIX, other, CUTMIX])
        for other in (CUTMIX, NONE)
    )
    for one, two in zip(alike, mixed, strict=True):
        assert_allclose(one[0], two[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("space", worlds.SPACES)
def test_a_single_environment_is_member_0_of_a_group(space):
    """Up to the order in which floats are added: the same seed draws the same task and weights."""
    settings = worlds.settings(space, name="loss_gain")
    env = MixEnv(worlds.image_world(), settings)
    group = MixVectorEnv(3, worlds.image_world(), settings)
    encode = env._group.codec.encode
    actions = [encode(a) for a in env._group.codec.choices[3:6]]
    one, task = env.reset(seed=8)
    several, group_task = group.reset(seed=8)
    assert task["task"] == {name: group_task["task"][name][0] for name in task["task"]}
    assert_allclose(several[0], one, rtol=1e-5, atol=1e-6)
    for epoch in range(worlds.BUDGET):
        one, reward, terminated, _, info = env.step(actions[epoch])
        others = [actions[epoch], actions[2], actions[2]]
        several, rewards, ended, _, infos = group.step(np.stack(others))
        several = infos.get("final_obs", several)
        assert_allclose(several[0], one, rtol=1e-3, atol=1e-4)
        assert_allclose(rewards[0], reward, rtol=1e-3, atol=1e-4)
        assert infos["mix"][0] == info["mix"]
        assert ended[0] == terminated


def test_a_group_starts_again_in_the_step_that_ends_it():
    group = group_of(2)
    assert group.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    _, info = group.reset(seed=1)
    for epoch in range(1, worlds.BUDGET + 1):
        observations, _, ended, truncated, infos = group.step(np.stack([CUTMIX, NONE]))
        assert ended.tolist() == [epoch == worlds.BUDGET] * 2
        assert truncated.tolist() == [False] * 2
        assert ("final_obs" in infos) == (epoch == worlds.BUDGET)
    assert infos["final_obs"][:, 0].tolist() == [1.0, 1.0]
    assert infos["_final_obs"].tolist() == [True, True]
    assert observations[:, 0].tolist() == [0.0, 0.0]
    assert group._specs[0].seed != info["task"]["seed"][0]


def test_the_seed_fixes_every_episode_that_follows():
    rounds = []
    for _ in range(2):
        group = group_of(2)
        group.reset(seed=6)
        tasks = []
        for _ in range(2 * worlds.BUDGET):
            observations, *_ = group.step(np.stack([CUTMIX, RMIX]))
            tasks.append((group.task_kinds, observations.tolist()))
        rounds.append(tasks)
    assert rounds[0] == rounds[1]


def test_of_a_list_of_seeds_the_first_counts():
    group = group_of(2)
    first, again = (group.reset(seed=seed)[1]["task"]["seed"] for seed in ([4, 9], 4))
    assert_array_equal(first, again)


def test_infos_tell_of_each_member_what_it_played():
    group = group_of(2)
    group.reset(seed=0)
    infos = group.step(np.array([[0, 2, 1], [3, 0, 2]]))[4]
    assert list(infos["mix"]) == ["none", "rmix@0.1+spectral"]
    assert infos["_mix"].tolist() == [True, True]
    assert infos["diverged"].tolist() == [False, False]
    assert infos["metrics"]["partner_share"][0] == 0.0
    assert 0.0 < infos["metrics"]["partner_share"][1] < 0.3


def test_spaces_of_a_group_are_those_of_its_members_stacked():
    group, env = group_of(3), MixEnv(worlds.image_world(), worlds.settings())
    assert group.num_envs == 3
    assert group.single_observation_space == env.observation_space
    assert group.single_action_space == env.action_space
    assert group.observation_space.shape == (3, *env.observation_space.shape)
    assert group.action_masks().shape == (3, 10)
    group.action_space.seed(0)
    observations = group.reset(seed=0)[0]
    assert group.observation_space.contains(observations)


def test_all_members_of_a_diverging_group_rest_until_the_end():
    world = worlds.image_world(lr=1e30, warmup_epochs=0)
    group = MixVectorEnv(2, world, worlds.settings(baseline="group"))
    group.reset(seed=0)
    _, rewards, ended, _, infos = group.step(np.stack([CUTMIX, NONE]))
    assert infos["diverged"].tolist() == [True, True]
    assert rewards.tolist() == [-10.0, -10.0]
    assert not ended.any()
    observations, rewards, ended, _, infos = group.step(np.stack([CUTMIX, NONE]))
    assert rewards.tolist() == [0.0, 0.0]
    assert ended.all()
    assert np.isfinite(infos["final_obs"]).all()
    assert np.isfinite(observations).all()


def test_the_kind_of_the_task_is_told():
    group = group_of(2)
    assert group.task_kinds == []
    _, info = group.reset(seed=0)
    size, noise = info["task"]["train_size"][0], info["task"]["label_noise"][0]
    assert group.task_kinds == [f"{size} images, {100 * noise:.0f}% noise"] * 2
    assert size in worlds.FAMILY.train_sizes


def test_the_test_split_is_never_looked_at():
    """Its labels and pixels are poisoned; not a bit of the game changes."""
    trajectories = []
    for poisoned in (False, True):
        world = worlds.image_world()
        images = world.family.images
        pixels, labels = images.pixels.images.clone(), images.labels.copy()
        test = TaskFamily(worlds.FAMILY)._test
        assert len(test) > 500
        if poisoned:
            pixels[test] = float("nan")
            labels[test] = -1
        world.family.images = replace(
            images, pixels=InMemory(pixels), labels=np.where(labels < 0, 0, labels)
        )
        group = group_of(2, world, baseline="group")
        trajectories.append(play(group, [CUTMIX, RMIX], [NONE, RMIX]))
    for clean, blind in zip(*trajectories, strict=True):
        assert_array_equal(clean, blind)
