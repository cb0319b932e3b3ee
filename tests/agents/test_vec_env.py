"""SB3's own vec-env scenarios on groups of episodes, wherever the groups live."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecCheckNan, VecMonitor, VecNormalize

from agents.training import make_mix_group
from agents.vec_env import GroupVecEnv
from agents.workers import InlineWorker
from envs import SurrogateVectorEnv
from tests import tiny
from tests.envs import worlds

BUDGET = 3
GROUPS, SIZE = 3, 2


def surrogate(workers=None, space="factored", seed=5, groups=GROUPS) -> GroupVecEnv:
    make_group = partial(SurrogateVectorEnv, SIZE, BUDGET, worlds.settings(space))
    return GroupVecEnv(make_group, groups, workers or [InlineWorker()], seed)


def real(workers, seed=5) -> GroupVecEnv:
    make_group = partial(
        make_mix_group,
        SIZE,
        worlds.FAMILY,
        tiny.trainer_settings(epochs=2),
        worlds.settings(baseline="group"),
        "cpu",
    )
    return GroupVecEnv(make_group, GROUPS, workers, seed)


def trajectory(env: GroupVecEnv, steps: int) -> list[np.ndarray]:
    """Play the same random actions; return all that came back."""
    env.action_space.seed(0)
    found = [env.reset()]
    for _ in range(steps):
        actions = np.stack([env.action_space.sample() for _ in range(env.num_envs)])
        observations, rewards, dones, infos = env.step(actions)
        found += [observations, rewards, dones]
        found += [np.array([info["val_accuracy"], info["passes"]]) for info in infos]
        found += [i["terminal_observation"] for i in infos if "terminal_observation" in i]
    return found


@pytest.mark.parametrize("space", worlds.SPACES)
def test_spaces_are_those_of_one_member(space):
    env = surrogate(space=space)
    member = SurrogateVectorEnv(SIZE, BUDGET, worlds.settings(space))
    assert env.num_envs == GROUPS * SIZE
    assert env.observation_space == member.single_observation_space
    assert env.action_space == member.single_action_space
    observations = env.reset()
    assert observations.shape == (6, *env.observation_space.shape)
    assert observations.dtype == np.float32
    actions = np.stack([env.action_space.sample() for _ in range(6)])
    observations, rewards, dones, infos = env.step(actions)
    assert observations.shape == (6, *env.observation_space.shape)
    assert rewards.shape == dones.shape == (6,)
    assert rewards.dtype == np.float32
    assert dones.dtype == bool
    assert len(infos) == 6


def test_the_end_of_an_episode_shows_its_last_observation_and_the_next_ones_first():
    env = surrogate()
    env.reset()
    for step in range(1, 2 * BUDGET + 1):
        observations, _, dones, infos = env.step(np.zeros((6, 3), dtype=np.int64))
        over = step % BUDGET == 0
        assert dones.tolist() == [over] * 6
        assert ["terminal_observation" in info for info in infos] == [over] * 6
        progress = (step % BUDGET) / BUDGET
        np.testing.assert_allclose(observations[:, 0], progress, atol=1e-6)
        # The last epoch is an end, not a time limit past which SB3 would bootstrap.
        assert not any(info.get("TimeLimit.truncated") for info in infos)
        if over:
            assert [info["terminal_observation"][0] for info in infos] == [1.0] * 6


def test_infos_of_the_last_step_name_the_task_that_ended():
    env = surrogate()
    env.reset()
    kinds = env.get_attr("task_kind")
    for _ in range(BUDGET):
        infos = env.step(np.zeros((6, 3), dtype=np.int64))[3]
        assert [info["task"] for info in infos] == kinds


def test_reset_infos_are_one_dict_a_member():
    env = surrogate()
    env.reset()
    assert env.reset_infos == [{}] * 6


def test_members_of_a_group_share_a_task_and_groups_do_not():
    env = real([InlineWorker()])
    observations = env.reset()
    for group in range(GROUPS):
        first = SIZE * group
        assert_array_equal(observations[first], observations[first + 1])
    assert not np.array_equal(observations[0], observations[2])
    assert not np.array_equal(observations[0], observations[4])


def test_each_action_reaches_its_own_member():
    env = surrogate(groups=2)
    env.reset()
    actions = np.array([[0, 0, 0], [1, 0, 0], [2, 1, 0], [3, 2, 0]])
    infos = env.step(actions)[3]
    assert [info["mix"] for info in infos] == ["none", "mixup@0.1", "cutmix@0.25", "rmix@0.5"]


def test_methods_and_attributes_are_those_of_the_group_an_environment_is_in():
    env = surrogate()
    env.reset()
    assert env.get_attr("num_envs") == [SIZE] * 6
    assert env.get_attr("num_envs", indices=3) == [SIZE]
    env.set_attr("colour", "red", indices=[2, 3])
    assert env.has_attr("num_envs")
    assert not env.has_attr("colour")
    assert env.get_attr("colour", indices=2) == ["red"]
    assert env.get_attr("colour", indices=[3]) == ["red"]
    env.set_attr("colour", "blue")
    assert env.get_attr("colour") == ["blue"] * 6
    assert env.has_attr("colour")
    assert env.env_method("action_masks", indices=[1])[0].shape == (10,)
    assert env.get_attr("render_mode") == [None] * 6


@pytest.mark.parametrize(("space", "entries"), [("factored", 10), ("flat", 28)])
def test_maskable_agents_find_one_mask_a_member(space, entries):
    env = surrogate(space=space)
    assert is_masking_supported(env)
    masks = get_action_masks(env)
    assert masks.shape == (6, entries)
    assert masks.all()


def test_no_wrapper_goes_around_a_member():
    env = surrogate()
    assert env.env_is_wrapped(Monitor) == [False] * 6
    assert env.env_is_wrapped(Monitor, indices=[0, 3]) == [False] * 2


def test_sb3s_wrappers_go_around_all_of_them():
    env = VecCheckNan(VecNormalize(VecMonitor(surrogate())), raise_exception=True)
    env.reset()
    for _ in range(BUDGET):
        infos = env.step(np.zeros((6, 3), dtype=np.int64))[3]
    assert [info["episode"]["l"] for info in infos] == [BUDGET] * 6


def test_the_seed_fixes_all_that_is_played():
    first, again, other = (
        np.concatenate([p.ravel() for p in trajectory(real([InlineWorker()], seed), 5)])
        for seed in (5, 5, 6)
    )
    assert_array_equal(first, again)
    assert len(other) != len(first) or not np.array_equal(first, other)


def test_seeding_by_sb3_changes_nothing():
    """An agent seeds its environments when it is built; the episodes have a seed of their own."""
    env, seeded = surrogate(), surrogate()
    assert seeded.seed(123) == [None] * 6
    for one, two in zip(trajectory(env, 4), trajectory(seeded, 4), strict=True):
        assert_array_equal(one, two)


def test_processes_give_what_this_process_gives_bit_for_bit(processes):
    """One, two, and one beside this process, over three groups: an uneven deal."""
    wanted = trajectory(real([InlineWorker()]), 5)
    for workers in (processes[:1], processes, [processes[0], InlineWorker()]):
        env = real(workers)
        got = trajectory(env, 5)
        masks = get_action_masks(env)
        assert masks.shape == (6, 10)
        assert is_masking_supported(env)
        assert not env.has_attr("nothing_of_that_name")
        assert env.get_attr("task_kind", indices=[0, 2, 4]) == [
            env.get_attr("task_kind")[index] for index in (0, 2, 4)
        ]
        env.close()
        assert len(got) == len(wanted)
        for one, two in zip(wanted, got, strict=True):
            assert_array_equal(one, two)


def test_more_workers_than_groups_leaves_some_without_work(processes):
    env = surrogate(workers=[*processes, InlineWorker()], groups=1)
    assert len(env.reset()) == SIZE
    env.close()


def test_settings_travel_to_processes_as_they_are(processes):
    settings = replace(worlds.settings("flat"), observations=("progress", "last_ratio"))
    make_group = partial(SurrogateVectorEnv, SIZE, BUDGET, settings)
    env = GroupVecEnv(make_group, 2, processes, 0)
    assert env.observation_space.shape == (2,)
    assert env.action_space.n == 28
    env.close()
