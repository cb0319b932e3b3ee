"""Actions that are played for several epochs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from automix.core.errors import ConfigError
from automix.envs import EnvSettings, MixEnv, SurrogateMixEnv
from automix.envs.groups import StackedGroups
from automix.mixing.actions import PLAIN, MixAction
from tests.envs import worlds
from tests.envs.worlds import ScriptedWorld

CUTMIX = MixAction("cutmix", 0.5)


def groups_of(curves, epochs_per_action):
    settings = EnvSettings(epochs_per_action=epochs_per_action)
    groups = StackedGroups(ScriptedWorld(curves), settings, 1)
    groups.reset([groups.world.draw(np.random.default_rng(0))], [0])
    return groups


@pytest.mark.parametrize(("every", "steps"), [(1, 7), (2, 4), (3, 3), (7, 1), (9, 1)])
def test_an_episode_takes_as_many_actions_as_fit_into_its_budget(every, steps):
    env = SurrogateMixEnv(7, EnvSettings(epochs_per_action=every))
    assert env._groups.settings.steps(7) == steps
    env.reset(seed=0)
    ends = [env.step(env.action_space.sample())[2] for _ in range(steps)]
    assert ends == [False] * (steps - 1) + [True]


def test_what_was_played_is_told_epoch_by_epoch():
    groups = groups_of([[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]], 2)
    for action in (CUTMIX, PLAIN, CUTMIX):
        (result,) = groups.step([action])
    assert result.finished
    assert groups.groups[0].mixes == [["cutmix@0.5"] * 2 + ["none"] * 2 + ["cutmix@0.5"]]


def test_gains_are_those_since_the_last_action():
    groups = groups_of([[0.1, 0.9, 0.3, 0.9, 0.7]], 2)
    rewards = [groups.step([PLAIN])[0].rewards[0] for _ in range(2)]
    assert_allclose(rewards, [2.0, 4.0])


def test_who_plays_epoch_by_epoch_is_shown_the_same_when_an_action_is_due():
    """``compare`` trains everybody epoch by epoch, whatever pace a policy was learned at."""
    names = ("progress", "val_accuracy", "val_accuracy_change", "val_accuracy_history")
    settings = EnvSettings(observations=names, epochs_per_action=2)
    curves = [[0.1, 0.3, 0.2, 0.6, 0.5, 0.9, 0.8]]
    slow, quick = (StackedGroups(ScriptedWorld(curves), settings, 1) for _ in range(2))
    spec = slow.world.draw(np.random.default_rng(0))
    assert_array_equal(slow.reset([spec], [0]), quick.reset([spec], [0]))
    for _ in range(3):
        quick.step([CUTMIX], epochs=1)
        shown = [one[0].observations for one in (slow.step([CUTMIX]), quick.step([CUTMIX], 1))]
        assert_array_equal(*shown)


def test_real_trainings_end_the_same_measured_often_or_once():
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


def test_less_than_an_epoch_is_refused():
    with pytest.raises(ConfigError, match=r"env\.epochs_per_action is 0, wanted 1 or more"):
        EnvSettings(epochs_per_action=0)
