"""Groups that go on from the state of one of their members."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from automix.core.errors import ConfigError
from automix.envs import EnvSettings, MixEnv, MixVectorEnv, SurrogateVectorEnv
from automix.envs.groups import Fork
from tests.envs import worlds

FORKING = EnvSettings(fork=True)
CUTMIX, NONE, RMIX = (np.array(action) for action in ([2, 2, 0], [0, 0, 0], [3, 2, 0]))


def forks(env, budget, seed):
    """Play at random to the end; return each step's truncations, final and next observations."""
    rng = np.random.default_rng(seed)
    env.reset(seed=seed)
    found = []
    for _ in range(budget):
        actions = np.stack(
            [rng.integers(env.single_action_space.nvec) for _ in range(env.num_envs)]
        )
        observations, _, ended, truncated, infos = env.step(actions)
        found.append((ended, truncated, infos.get("final_obs"), observations))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_each_group_forks_once_and_all_but_the_donor_are_truncated(seed):
    env = SurrogateVectorEnv(3, 6, FORKING, groups=4)
    played = forks(env, 6, seed)
    truncations = np.array([truncated for _, truncated, *_ in played])
    assert_array_equal(truncations.sum(0).reshape(4, 3).sum(1), [2] * 4)
    assert not truncations[-1].any(), "a fork after the last action would change nothing"
    for ended, truncated, final, shown in played[:-1]:
        assert not ended.any()
        for group in range(4):
            own = slice(3 * group, 3 * group + 3)
            if truncated[own].any():
                (donor,) = np.flatnonzero(~truncated[own])
                assert_array_equal(shown[own], np.stack([final[own][donor]] * 3))


def test_members_that_play_alike_after_the_fork_end_alike_bit_for_bit():
    env = MixVectorEnv(3, worlds.image_world(), replace(worlds.settings(), fork=True))
    env.reset(seed=4)
    *_, truncated, infos = env.step(np.stack([CUTMIX, NONE, RMIX]))
    assert truncated.sum() == 2
    assert len(set(infos["metrics"]["val_loss"])) == 3
    *_, infos = env.step(np.stack([CUTMIX, CUTMIX, RMIX]))
    first, second, third = infos["metrics"]["val_loss"]
    assert first == second != third


def test_what_a_member_has_played_is_then_what_its_donor_has():
    env = MixVectorEnv(2, worlds.image_world(), replace(worlds.settings(), fork=True))
    env.reset(seed=1)
    *_, truncated, _ = env.step(np.stack([CUTMIX, NONE]))
    game = env._groups.groups[0]
    (donor,) = np.flatnonzero(~truncated)
    assert game.mixes == [[["cutmix@0.5"], ["none"]][donor]] * 2
    assert game.histories[0] == game.histories[1]


def test_a_fork_comes_before_an_action_and_never_at_an_end():
    found = {Fork.draw(seed, 10, 4, 2).epoch for seed in range(50)}
    assert found == {4, 8}
    assert Fork.draw(0, 4, 4, 2) is None


def test_one_episode_alone_cannot_fork():
    with pytest.raises(ConfigError, match=r"env\.fork is true"):
        MixEnv(worlds.image_world(), FORKING)
