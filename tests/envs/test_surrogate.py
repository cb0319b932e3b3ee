"""Decisions in closed form: what they are worth can be worked out by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from automix.data.tasks import TaskSpec
from automix.envs import (
    ActionCodec,
    ActionSettings,
    EnvSettings,
    MixEnv,
    StackedGroups,
    SurrogateMixEnv,
)
from automix.envs.rewards import RewardSettings
from automix.envs.surrogate import SurrogateWorld, gain, wanted_ratio
from automix.mixing.actions import PLAIN, MixAction
from tests.envs import worlds

WORLD = SurrogateWorld()
SETTINGS = EnvSettings(reward=RewardSettings(scale=1.0))
CHOICES = ActionCodec(SETTINGS.actions).choices
CUTMIX = MixAction("cutmix", 0.5)


def played_out(choose, noise: float) -> float:
    """Play one episode of a noise level; ``choose(progress)`` decides."""
    groups = StackedGroups(WORLD, SETTINGS, 1)
    groups.reset([TaskSpec(train_size=200, label_noise=noise, seed=0)], [0])
    results = [groups.step([choose(epoch / WORLD.budget)])[0] for epoch in range(WORLD.budget)]
    assert [result.finished for result in results] == [False] * 19 + [True]
    return float(sum(result.rewards[0] for result in results))


def mean_over_tasks(policy) -> float:
    """``policy(noise, progress)`` on every noise level."""
    return float(np.mean([played_out(lambda t, n=n: policy(n, t), n) for n in WORLD.label_noise]))


def test_the_value_of_an_action_is_what_playing_it_throughout_earns():
    for action in CHOICES:
        earned = mean_over_tasks(lambda noise, progress, action=action: action)
        assert earned == pytest.approx(WORLD.value(action)), action


def test_the_optimum_is_what_the_best_action_at_every_epoch_earns():
    def best(noise: float, progress: float) -> MixAction:
        return max(CHOICES, key=lambda action: gain(action, noise, progress, WORLD.budget))

    assert mean_over_tasks(best) == pytest.approx(WORLD.optimum(CHOICES))
    # By hand: the choices hold every wanted action, so nothing of the rise is missed.
    assert WORLD.optimum(CHOICES) == pytest.approx(0.8)


def test_no_constant_comes_near_the_optimum():
    values = {str(action): WORLD.value(action) for action in CHOICES}
    assert max(values.values()) < WORLD.optimum(CHOICES) - 0.15
    # By hand: clean tasks gain all, noisy ones 0.4 of the rise in the last fifth, which wants
    # half as much CutMix: (0.8 + 2 * 0.8 * 0.2 * 0.4) / 3.
    assert values["none"] == pytest.approx(0.928 / 3)


def test_a_gain_is_the_share_of_the_rise_that_is_not_missed():
    for action, noise, progress, share in (
        (PLAIN, 0.0, 0.3, 1.0),
        (CUTMIX, 0.2, 0.3, 1.0),
        (CUTMIX, 0.2, 0.8, 0.6),
        (MixAction("cutmix", 0.25), 0.4, 0.8, 1.0),
        (MixAction("mixup", 0.5), 0.4, 0.3, 0.8),
        (CUTMIX, 0.0, 0.3, 0.0),
    ):
        assert gain(action, noise, progress, 20) == pytest.approx(share * 0.8 / 20, abs=1e-12)
    # Clean labels want no mixing, and wrong ones much until the end.
    assert [wanted_ratio(0.0, t) for t in (0.0, 0.5, 0.9)] == [0.0, 0.0, 0.0]
    assert [wanted_ratio(0.2, t) for t in (0.0, 0.79, 0.8, 0.95)] == [0.5, 0.5, 0.25, 0.25]


def test_its_spaces_are_those_of_real_images_and_every_noise_level_is_drawn():
    for actions, space in product((ActionSettings(), worlds.GUIDED), worlds.SPACES):
        settings = worlds.settings(space, actions)
        surrogate, real = SurrogateMixEnv(3, settings), MixEnv(worlds.image_world(), settings)
        assert surrogate.action_space == real.action_space
        assert surrogate.observation_space == real.observation_space
    env = SurrogateMixEnv(1)
    drawn = {env.reset(seed=seed)[1]["task"]["label_noise"] for seed in range(30)}
    assert drawn == set(WORLD.label_noise)


def test_the_noise_of_the_task_can_be_seen_in_the_gap():
    """So that a policy must look at the training, not only at progress."""
    gaps = {}
    for noise in WORLD.label_noise:
        groups = StackedGroups(WORLD, SETTINGS, 1)
        groups.reset([TaskSpec(train_size=200, label_noise=noise, seed=0)], [0])
        (result,) = groups.step([PLAIN])
        place = groups.groups[0].observer.names.index("accuracy_gap")
        gaps[noise] = float(result.observations[0, place])
    assert len(set(gaps.values())) == 3
