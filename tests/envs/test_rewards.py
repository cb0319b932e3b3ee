"""What an epoch earns, relative to what, and what a divergence costs."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from automix.core.errors import ConfigError
from automix.envs import REWARDS, MixEnv, MixVectorEnv, RewardSettings, StackedGroups
from automix.envs.settings import EnvSettings
from automix.mixing.actions import MixAction
from automix.training.metrics import EpochMetrics
from tests.envs import worlds
from tests.envs.worlds import ScriptedWorld

NAN = math.nan

TOTALS = {
    "accuracy_gain": lambda first, last: last.val_accuracy - first.val_accuracy,
    "loss_gain": lambda first, last: (first.val_loss - last.val_loss) / math.log(10),
    "final_accuracy": lambda first, last: last.val_accuracy,
    "final_calibrated": lambda first, last: math.exp(-last.val_calibrated_loss),
    "final_loss": lambda first, last: -last.val_loss / math.log(10),
}
"""What an episode earns in all, by hand."""


def play(curves: list[list[float]], members: int | None = None, **reward: object) -> np.ndarray:
    """Play scripted training runs to their end; return the rewards, (budget, members)."""
    world = ScriptedWorld(curves)
    settings = EnvSettings(reward=RewardSettings(**reward))
    groups = StackedGroups(world, settings, members or len(curves))
    (group,) = groups.groups
    rng = np.random.default_rng(0)
    groups.reset([world.draw(rng)], [0])
    played = []
    for epoch in range(world.budget):
        (result,) = groups.step([group.codec.choices[0]] * group.members)
        assert result.finished is (epoch == world.budget - 1)
        assert np.isfinite(result.observations).all()
        played.append(result.rewards)
    return np.array(played)


share = st.floats(0, 1)


@given(values=st.lists(st.tuples(share, st.floats(0, 5)), min_size=2, max_size=6))
def test_an_episodes_rewards_add_up_to_what_its_end_gained(values):
    history: list[EpochMetrics] = [
        worlds.record(epoch, val_accuracy=accuracy, val_loss=loss, val_calibrated_loss=loss / 2)
        for epoch, (accuracy, loss) in enumerate(values)
    ]
    last = len(values) - 2
    assert set(TOTALS) == set(REWARDS)
    for name, total in TOTALS.items():
        steps = enumerate(pairwise(history))
        rewards = [REWARDS[name](before, after, n == last, 10) for n, (before, after) in steps]
        assert_allclose(sum(rewards), total(history[0], history[-1]), atol=1e-9, err_msg=name)


def test_final_rewards_are_nothing_before_the_end_and_the_scale_is_a_factor():
    before, after = worlds.record(0), worlds.record(1, val_accuracy=0.9, val_loss=0.1)
    for name in ("final_accuracy", "final_calibrated", "final_loss"):
        assert REWARDS[name](before, after, False, 10) == 0.0
    assert_allclose(play([[0.1, 0.3, 0.6]], scale=100.0)[:, 0], [20.0, 30.0])


@given(
    curves=st.lists(st.lists(share, min_size=4, max_size=4), min_size=2, max_size=5),
    name=st.sampled_from(sorted(REWARDS)),
)
def test_a_groups_rewards_sum_to_zero(curves, name):
    rewards = play(curves, name=name, baseline="group")
    assert_allclose(rewards.sum(1), 0.0, atol=1e-9)


def test_a_groups_rewards_keep_the_differences_between_its_members():
    curves = [[0.1, 0.2, 0.9], [0.1, 0.4, 0.5]]
    relative, plain = (play(curves, baseline=baseline) for baseline in ("group", "none"))
    assert_allclose(relative[:, 0] - relative[:, 1], plain[:, 0] - plain[:, 1])
    assert_allclose(relative[0], [-1.0, 1.0])


def test_a_group_of_one_has_no_baseline():
    with pytest.raises(ConfigError, match="needs 2 episodes side by side, got 1"):
        MixEnv(worlds.image_world(), worlds.settings(baseline="group"))


def test_the_reference_is_the_hidden_last_member():
    """Only its two members are paid; the third curve is the reference's."""
    curves = [[0.1, 0.4], [0.1, 0.2], [0.1, 0.3]]
    assert_allclose(play(curves, members=2, baseline="reference", scale=1.0), [[0.1, -0.1]])


def test_to_play_the_reference_earns_exactly_nothing():
    for reference in ("none", "cutmix@0.5", "rmix@0.25+spectral"):
        env = MixEnv(
            worlds.image_world(), worlds.settings(baseline="reference", reference=reference)
        )
        env.reset(seed=1)
        action = env.codec.encode(MixAction.parse(reference))
        assert [env.step(action)[1] for _ in range(worlds.BUDGET)] == [0.0, 0.0]


def test_to_play_otherwise_earns_the_difference_to_the_reference():
    curves = {}
    for baseline in ("none", "reference"):
        settings = worlds.settings(baseline=baseline, reference="none", name="loss_gain")
        group = MixVectorEnv(2, worlds.image_world(), settings)
        group.reset(seed=4)
        # Member 0 mixes; member 1 is the reference itself, in sight.
        curves[baseline] = np.array([group.step(np.array([[2, 2, 0], [0, 0, 0]]))[1]])
    assert curves["reference"][0, 1] == 0.0
    difference = curves["none"][0, 0] - curves["none"][0, 1]
    assert difference != 0.0
    assert_allclose(curves["reference"][0, 0], difference, rtol=1e-3)


def test_a_divergence_costs_the_penalty_once_and_then_rests():
    curves = [[0.1, 0.2, 0.4, 0.6], [0.1, 0.2, NAN, NAN], [0.1, 0.4, 0.5, 0.5]]
    for baseline, members in (("none", 3), ("group", 3), ("reference", 2)):
        rewards = play(curves, members, baseline=baseline, scale=10.0, divergence_penalty=2.0)
        assert rewards[1:, 1].tolist() == [-20.0, 0.0], baseline
    assert_array_equal(play([[0.1, NAN, NAN]] * 2, baseline="group"), [[-10.0] * 2, [0.0] * 2])
    reference_diverged = play([[0.1, 0.3], [0.1, NAN]], members=1, baseline="reference")
    assert_allclose(reference_diverged, [[2.0]])


def test_a_divergence_does_not_move_the_baseline_of_the_others():
    sound = [[0.1, 0.2, 0.4, 0.6], [0.1, 0.4, 0.5, 0.5]]
    alone = play(sound, baseline="group")
    beside = play([*sound, [0.1, 0.3, NAN, NAN]], baseline="group")
    assert_allclose(beside[1:, :2], alone[1:])
    assert_allclose(beside[1:, :2].sum(1), 0.0, atol=1e-12)


def test_a_training_that_diverges_ends_its_episode_with_the_penalty():
    settings = worlds.settings(divergence_penalty=0.5, scale=4.0)
    env = MixEnv(worlds.image_world(lr=1e30, warmup_epochs=0), settings)
    env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step(np.array([1, 1, 0]))
    assert info["diverged"] is True
    assert info["metrics"]["diverged"] is True
    assert reward == -2.0
    assert terminated is True
    assert truncated is False
    assert env.observation_space.contains(observation)
    assert np.isfinite(observation).all()


def test_settings_that_make_no_sense_are_refused():
    for changes, said in (
        ({"name": "acuracy_gain"}, "'acuracy_gain' is not a reward.* 'accuracy_gain'"),
        ({"baseline": "grup"}, "env.reward.baseline is 'grup', wanted 'none', 'group'"),
        ({"reference": "cutmx@0.5"}, "'cutmx' is not a .*'cutmix'"),
        ({"scale": 0.0}, "env.reward.scale is 0.0, wanted a number above 0"),
        ({"scale": NAN}, "env.reward.scale is nan"),
        ({"scale": math.inf}, "env.reward.scale is inf"),
        ({"divergence_penalty": -1.0}, "env.reward.divergence_penalty is -1.0, wanted 0 or more"),
        ({"divergence_penalty": math.inf}, "env.reward.divergence_penalty is inf"),
    ):
        with pytest.raises(ConfigError, match=said):
            RewardSettings(**changes)
