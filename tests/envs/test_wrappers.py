"""Wrappers play the same mixes as the environment that they go around."""

from __future__ import annotations

import warnings
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3.common.env_checker import check_env as sb3_check

from automix.core.errors import ConfigError
from automix.envs import ActionCodec, ActionSettings, BoxActions, FlatActions, SurrogateMixEnv
from tests.envs import worlds

every_wrapper = pytest.mark.parametrize("wrapper", [FlatActions, BoxActions])


def wrapped(wrapper: type, actions: ActionSettings = worlds.GUIDED) -> gymnasium.Env:
    env = wrapper(SurrogateMixEnv(worlds.BUDGET, worlds.settings(actions=actions)))
    env.reset(seed=0)
    return env


@every_wrapper
def test_both_checks_pass_on_a_wrapped_environment(wrapper):
    env = wrapped(wrapper)
    with warnings.catch_warnings():
        # gymnasium would rather see the bare environment; the wrapper is what is checked here.
        warnings.filterwarnings("ignore", message=".*is different from the unwrapped version")
        gymnasium_check(env, skip_render_check=True)
        sb3_check(env)


@every_wrapper
def test_every_choice_can_be_played(wrapper):
    env = wrapped(wrapper)
    for action in env.unwrapped.codec.choices:
        env.reset()
        assert env.step(env.codec.encode(action))[4]["mix"] == str(action)


def test_a_flat_number_counts_the_choices():
    env = wrapped(FlatActions)
    assert env.action_space == spaces.Discrete(28)
    assert env.action_masks().tolist() == [True] * 28
    assert env.step(np.int64(5))[4]["mix"] == str(env.unwrapped.codec.choices[5])


def test_a_ratio_between_those_that_are_offered_becomes_the_closest():
    """The vocabulary has 0.1, 0.25 and 0.5; the number r asks for 0.25 * (r + 1)."""
    closest = {-1.0: 0.1, -0.3: 0.1, -0.2: 0.25, 0.45: 0.25, 0.6: 0.5, 9.0: 0.5}
    for ratio, played in closest.items():
        env = wrapped(BoxActions, ActionSettings())
        numbers = np.array([0.1, -1, 0.9, -1, ratio], dtype=np.float32)
        assert env.step(numbers)[4]["mix"] == f"cutmix@{played:g}"


def test_any_sample_of_the_box_can_be_played_where_none_is_not_offered():
    env = wrapped(BoxActions, ActionSettings(methods=("cutmix", "mixup"), ratios=(0.3, 0.5)))
    env.action_space.seed(0)
    for numbers in [-np.ones(3, dtype=np.float32), *(env.action_space.sample() for _ in range(99))]:
        env.reset()
        assert env.step(numbers)[4]["mix"].partition("@")[2] in ("0.3", "0.5")


def test_a_box_cannot_be_masked_and_is_that_of_the_settings():
    with pytest.raises(ConfigError, match="'box', whose numbers cannot be masked") as error:
        wrapped(BoxActions).action_masks()
    assert "flat" in error.value.hint
    codec = ActionCodec(replace(worlds.GUIDED, space="box"))
    assert wrapped(BoxActions).action_space == codec.space
