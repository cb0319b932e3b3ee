"""What gymnasium and stable-baselines3 expect of an environment whose step is an epoch."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env as gymnasium_check
from numpy.testing import assert_array_equal
from stable_baselines3.common.env_checker import check_env as sb3_check

from automix.core.errors import ConfigError
from automix.envs import EnvSettings, MixVectorEnv
from tests.envs import worlds

TINY: dict[str, Any] = {
    "automix/Mix-v0": lambda: {"world": worlds.image_world()},
    "automix/Surrogate-v0": lambda: {"budget": worlds.BUDGET},
}
"""Arguments that make an environment small, for those of one step an epoch."""

every_env = pytest.mark.parametrize("env_id", list(TINY))
every_space = pytest.mark.parametrize("space", worlds.SPACES)


def make(env_id: str, settings: EnvSettings) -> gymnasium.Env:
    return gymnasium.make(env_id, settings=settings, **TINY[env_id]())


def play(env: gymnasium.Env, seed: int) -> list[np.ndarray]:
    """Play one episode of random actions; return all that came back, flat."""
    rng = np.random.default_rng(7)
    found = [env.reset(seed=seed)[0]]
    ended = False
    while not ended:
        env.action_space.seed(int(rng.integers(2**31)))
        observation, reward, ended, truncated, _ = env.step(env.action_space.sample())
        assert truncated is False
        found += [observation, np.array(reward)]
    return found


@every_space
@every_env
def test_gymnasiums_own_check_passes(env_id, space):
    env = make(env_id, worlds.settings(space))
    gymnasium_check(env.unwrapped)


@every_space
@every_env
def test_stable_baselines3s_own_check_passes(env_id, space):
    sb3_check(make(env_id, worlds.settings(space)).unwrapped)


@every_env
def test_make_needs_no_arguments(env_id):
    """The default world is the digits family of the issue; nothing is trained here."""
    env = gymnasium.make(env_id)
    assert env.observation_space.shape == (19,)
    assert env.action_space.nvec.tolist() == [4, 3, 1]


@every_space
@every_env
def test_a_seed_fixes_the_episode_and_another_seed_is_another_episode(env_id, space):
    first, again, other = (
        np.concatenate([np.ravel(part) for part in play(make(env_id, worlds.settings(space)), s)])
        for s in (5, 5, 6)
    )
    assert_array_equal(first, again)
    if env_id == "automix/Mix-v0":
        assert not np.array_equal(first, other)


@every_env
def test_a_seed_fixes_the_episode_whatever_was_played_before(env_id):
    env = make(env_id, worlds.settings())
    first = play(env, 5)
    play(env, 9)
    for got, wanted in zip(play(env, 5), first, strict=True):
        assert_array_equal(got, wanted)


@every_env
def test_without_a_seed_the_next_episode_is_a_new_draw(env_id):
    env = make(env_id, worlds.settings())
    drawn = [env.reset(seed=3)[1]["task"], *(env.reset()[1]["task"] for _ in range(2))]
    assert len({task["seed"] for task in drawn}) == 3
    assert env.reset(seed=3)[1]["task"] == drawn[0]


@every_env
def test_progress_is_the_first_observation_and_the_last_epoch_is_terminal(env_id):
    env = make(env_id, worlds.settings())
    observation, _ = env.reset(seed=0)
    seen = [float(observation[0])]
    for epoch in range(1, worlds.BUDGET + 1):
        observation, _, terminated, truncated, info = env.step(env.action_space.sample())
        seen.append(float(observation[0]))
        assert terminated is (epoch == worlds.BUDGET)
        assert truncated is False
        assert info["metrics"]["epoch"] == epoch
    assert seen == [0.0, 0.5, 1.0]


@every_env
def test_rewards_and_observations_are_plain_finite_numbers(env_id):
    env = make(env_id, worlds.settings())
    env.reset(seed=0)
    observation, reward, _, _, _ = env.step(env.action_space.sample())
    assert type(reward) is float
    assert observation.dtype == np.float32
    assert np.isfinite(observation).all()
    assert env.observation_space.contains(observation)


@every_env
def test_a_step_before_the_first_reset_is_an_error_that_says_so(env_id):
    env = make(env_id, worlds.settings())
    with pytest.raises(ResetNeeded):
        env.step(env.action_space.sample())
    with pytest.raises(ConfigError, match="before reset"):
        env.unwrapped.step(env.action_space.sample())


def test_a_group_too_is_told_to_reset_first():
    group = MixVectorEnv(2, worlds.image_world(), worlds.settings())
    with pytest.raises(ConfigError, match="before reset") as error:
        group.step(group.action_space.sample())
    assert "env.reset()" in error.value.hint


@every_space
def test_masks_offer_every_entry_of_the_space(space):
    env = make("automix/Surrogate-v0", worlds.settings(space))
    masks = env.unwrapped.action_masks()
    # 3 mixes x 3 ratios x 3 saliencies and none; or 4 methods, 3 ratios, 3 saliencies
    assert masks.tolist() == [True] * (28 if space == "flat" else 10)


@every_space
@every_env
def test_info_names_what_was_really_played(env_id, space):
    env = make(env_id, worlds.settings(space))
    env.reset(seed=0)
    codec = env.unwrapped._group.codec
    for mix in ("cutmix@0.25+spectral", "none"):
        chosen = next(action for action in codec.choices if str(action) == mix)
        assert env.step(codec.encode(chosen))[4]["mix"] == mix


@every_env
def test_none_is_none_whatever_ratio_and_saliency_come_with_it(env_id):
    env = make(env_id, worlds.settings())
    env.reset(seed=0)
    _, _, _, _, info = env.step(np.array([0, 2, 1]))
    assert info["mix"] == "none"
    assert info["metrics"]["partner_share"] == 0.0
