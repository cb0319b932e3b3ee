"""Suites: groups of different worlds side by side, decisions at shares of the budget."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from automix.core.errors import ConfigError
from automix.data.tasks import TaskSpec
from automix.envs import EnvSettings, MixVectorEnv, RewardSettings
from automix.envs.groups import StackedGroups
from automix.envs.worlds import Suite, WorldSettings, build_world
from automix.mixing.actions import PLAIN, MixAction
from tests import tiny
from tests.envs import worlds

SHORT = WorldSettings(worlds.FAMILY, tiny.trainer_settings(epochs=2), "short")
LONG = WorldSettings(
    replace(worlds.FAMILY, train_sizes=(20,)), tiny.trainer_settings(epochs=5), "long"
)
TWICE = EnvSettings(decisions=2)


def suite() -> Suite:
    made = build_world([SHORT, LONG])
    assert isinstance(made, Suite)
    return made


def specs(*names: str) -> list[TaskSpec]:
    return [TaskSpec(train_size=20, label_noise=0.0, seed=4, world=name) for name in names]


def test_each_group_plays_as_it_does_alone_whatever_world_is_beside_it():
    actions = [MixAction("cutmix", 0.5), PLAIN]
    together = StackedGroups(suite(), TWICE, 2, groups=3)
    together.reset(specs("short", "long", "short"), [1, 2, 3])
    results = [together.step(actions * 3) for _ in range(2)]
    for g, (name, seed, budget) in enumerate([("short", 1, 2), ("long", 2, 5), ("short", 3, 2)]):
        alone = StackedGroups(suite(), TWICE, 2)
        first = alone.reset(specs(name), [seed])
        for step, side_by_side in enumerate(results):
            (own,) = alone.step(actions)
            assert_allclose(side_by_side[g].observations, own.observations, rtol=1e-4, atol=1e-5)
            assert own.finished == side_by_side[g].finished == (step == 1)
        assert own.metrics[0].epoch == budget
        assert first[0, 0] == 0
        assert [len(mixes) for mixes in together.groups[g].mixes] == [budget] * 2


def test_a_state_goes_on_as_the_groups_would_have():
    made = [StackedGroups(suite(), TWICE, 2, groups=2) for _ in range(2)]
    made[0].reset(specs("short", "long"), [1, 2])
    made[0].step([PLAIN] * 4)
    made[1].load_state_dict(made[0].state_dict())
    one, other = (groups.step([MixAction("mixup", 0.5)] * 4) for groups in made)
    for left, right in zip(one, other, strict=True):
        assert_array_equal(left.observations, right.observations)
        assert_array_equal(left.rewards, right.rewards)


def test_all_worlds_are_drawn_and_told_by_name():
    env = MixVectorEnv(2, suite(), TWICE, groups=8)
    _, info = env.reset(seed=0)
    names = set(info["task"]["world"])
    assert names == {"short", "long"}
    assert all(kind.startswith(("short: ", "long: ")) for kind in env.task_kinds)


@pytest.mark.parametrize(
    ("budget", "decisions", "starts"),
    [(10, 5, [0, 2, 4, 6, 8]), (7, 3, [0, 2, 5]), (5, 5, [0, 1, 2, 3, 4]), (300, 2, [0, 150])],
)
def test_decisions_fall_at_shares_of_the_budget(budget, decisions, starts):
    settings = EnvSettings(decisions=decisions)
    assert settings.starts(budget) == starts
    assert settings.steps(budget) == decisions


def test_what_cannot_be_is_refused_by_the_name_of_the_world():
    refused = {
        "a budget of 2 epochs is shorter than its 3 decisions": lambda: StackedGroups(
            suite(), EnvSettings(decisions=3), 1
        ).reset(specs("short"), [0]),
        "world 'short': ": lambda: suite().check([MixAction("cutmix", 0.5, "attention_cls")]),
        "a suite has worlds named": lambda: Suite([]),
        "wanted one of the two": lambda: EnvSettings(decisions=2, epochs_per_action=2),
    }
    for message, make in refused.items():
        with pytest.raises(ConfigError, match=message):
            make()


RAW = np.array([0.5, 0.7, 0.9, 0.6])
"""Of three members and the reference."""
SOUND = np.ones(4, dtype=bool)


def test_rewards_in_units_of_the_groups_spread_and_harm_by_hand():
    spread = np.std(RAW[:3]) + 0.01
    plain = RewardSettings(baseline="reference")
    assert_allclose(plain.relative(RAW, SOUND), RAW - 0.6)
    units = replace(plain, unit="spread")
    assert_allclose(units.relative(RAW, SOUND), (RAW - 0.6) / spread)
    harmed = replace(plain, harm=2.0).relative(RAW, SOUND)
    assert_allclose(harmed, [-0.1 - 2 * 0.1, 0.1, 0.3, 0.0])
    group = RewardSettings(baseline="group", harm=1.0)
    assert_allclose(group.relative(RAW, SOUND), RAW - 0.7 - [0.1, 0, 0, 0], atol=1e-12)
    assert [plain.plays_reference, group.plays_reference] == [True, True]
    assert not RewardSettings(baseline="group").plays_reference
