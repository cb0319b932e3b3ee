"""Several games at one table: each is the game that it would be alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from automix.core.errors import ConfigError
from automix.data.tasks import TaskSpec
from automix.envs import MixVectorEnv, SurrogateVectorEnv
from automix.envs.groups import StackedGroups
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


def at_one_table(world, settings, plays=PLAYS):
    """All that the members are told, (games, members, ...) each."""
    table = StackedGroups(world, settings, 2, 3)
    told = [table.reset(SPECS, SEEDS).reshape(3, 2, -1)]
    for actions in plays:
        turns = table.step(actions)
        told += [np.stack([turn.observations for turn in turns])]
        told += [np.stack([turn.rewards for turn in turns])]
        assert [turn.played for turn in turns] == [actions[:2], actions[2:4], actions[4:]]
        assert [len(turn.metrics) for turn in turns] == [2, 2, 2]
    return told, table


def alone(world, settings, plays=PLAYS):
    told, games = [], []
    for g, (spec, seed) in enumerate(zip(SPECS, SEEDS, strict=True)):
        group = StackedGroups(world, settings, 2)
        own = [group.reset([spec], [seed])]
        for actions in plays:
            (turn,) = group.step(actions[2 * g : 2 * g + 2])
            own += [turn.observations, turn.rewards]
        told.append(own)
        games.append(group.groups[0])
    return [np.stack(parts) for parts in zip(*told, strict=True)], games


@pytest.mark.parametrize("baseline", BASELINES)
def test_games_in_closed_form_are_exactly_those_alone(baseline):
    settings = worlds.settings(baseline=baseline)
    plays = [*PLAYS, PLAYS[0]]
    together, table = at_one_table(SurrogateWorld(3), settings, plays)
    apart, games = alone(SurrogateWorld(3), settings, plays)
    for one, other in zip(together, apart, strict=True):
        assert_array_equal(one, other)
    for one, other in zip(table.groups, games, strict=True):
        assert one.mixes == other.mixes
        assert one.histories == other.histories
        assert one.spec == other.spec


@pytest.mark.parametrize("baseline", BASELINES)
def test_real_games_are_those_alone(baseline):
    """Up to the order in which floats are added; a hidden reference sits with each game."""
    settings = worlds.settings(baseline=baseline, name="loss_gain", reference="mixup@0.3")
    together, table = at_one_table(worlds.image_world(), settings)
    apart, games = alone(worlds.image_world(), settings)
    for one, other in zip(together, apart, strict=True):
        assert_allclose(one, other, rtol=2e-3, atol=2e-3)
    assert table._training.members == 3 * (3 if baseline == "reference" else 2)
    for one, other in zip(table.groups, games, strict=True):
        for own, wanted in zip(one.histories, other.histories, strict=True):
            for got, record in zip(own, wanted, strict=True):
                assert got.forward_passes == record.forward_passes
                assert got.partner_share == pytest.approx(record.partner_share, abs=1e-6)


def test_a_reference_plays_its_own_action_in_every_game():
    settings = worlds.settings(baseline="reference", reference="cutmix@0.5")
    told, _ = at_one_table(SurrogateWorld(2), settings, [[CUTMIX] * 6, [CUTMIX] * 6])
    assert_allclose(told[2], 0, atol=1e-12)
    assert_allclose(told[4], 0, atol=1e-12)
    other, _ = at_one_table(SurrogateWorld(2), settings, [[PLAIN] * 6, [PLAIN] * 6])
    # With wrong labels no mixing loses against it, with clean ones it wins.
    assert (other[2][[0, 2]] < -0.01).all()
    assert (other[2][1] > 0.01).all()


def test_games_on_one_task_share_stacks_and_not_their_numbers():
    world = worlds.image_world()
    table = StackedGroups(world, worlds.settings(), 2, 2)
    observations = table.reset([SPECS[0], SPECS[0]], [5, 6])
    assert_array_equal(observations[0], observations[1])
    assert not np.array_equal(observations[0], observations[2])
    population = table._training
    assert len({id(cohort) for cohort, _ in population._places}) == 1
    assert len({id(task) for task in population.tasks}) == 1


def test_playing_comes_after_a_reset():
    with pytest.raises(ConfigError, match="before reset"):
        StackedGroups(SurrogateWorld(2), worlds.settings(), 2, 2).step([PLAIN] * 4)


# Groups of one environment ----------------------------------------------------------------------


def real_groups(groups, size=2):
    return MixVectorEnv(size, worlds.image_world(), worlds.settings(), groups)


def test_members_of_a_group_share_a_task_and_groups_do_not():
    env = real_groups(3)
    assert (env.num_envs, env.group_size) == (6, 2)
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


def test_groups_of_an_environment_are_a_table_of_what_it_draws():
    env = SurrogateVectorEnv(2, 3, worlds.settings(), groups=3)
    observations, info = env.reset(seed=4)
    world = SurrogateWorld(3)
    specs, seeds = [], []
    for first in (4, 6, 8):  # environment i is seeded with 4 + i, and a group by its first
        rng = np.random.default_rng(first)
        specs.append(world.draw(rng))
        seeds.append(int(rng.integers(2**31)))
    assert info["task"]["seed"].tolist() == [spec.seed for spec in specs for _ in range(2)]
    table = StackedGroups(world, worlds.settings(), 2, 3)
    assert_array_equal(observations, table.reset(specs, seeds))
    codec = table.groups[0].codec
    actions = np.stack([codec.encode(action) for action in codec.choices[2:8]])
    observations, rewards, ended, truncated, infos = env.step(actions)
    turns = table.step(codec.choices[2:8])
    assert_array_equal(observations, np.concatenate([turn.observations for turn in turns]))
    assert_array_equal(rewards, np.concatenate([turn.rewards for turn in turns]))
    assert list(infos["mix"]) == [str(action) for action in codec.choices[2:8]]
    assert ended.shape == truncated.shape == (6,)


@pytest.mark.parametrize("groups", [1, 2, 5])
def test_what_an_episode_will_cost_is_known_before_it_starts(groups):
    """And asking draws nothing: the episode is the one that it would have been."""
    env, unasked = real_groups(groups), real_groups(groups)
    for seed in range(4):
        seeds = list(range(seed, seed + env.num_envs))
        images = env.drawn_images(seeds)
        _, info = env.reset(seed=seeds)
        assert images == info["task"]["train_size"][::2].sum()
        assert_array_equal(info["task"]["seed"], unasked.reset(seed=seed)[1]["task"]["seed"])
    costs = [env.drawn_images(list(range(s, s + env.num_envs))) for s in range(30)]
    assert set(costs) <= {40 * groups + 20 * large for large in range(groups + 1)}
    assert len(set(costs)) > 1


def test_all_groups_start_again_together():
    env = real_groups(2)
    _, info = env.reset(seed=1)
    seen = [tuple(info["task"]["seed"])]
    for _ in range(2):
        for epoch in range(1, worlds.BUDGET + 1):
            ended, infos = env.step(np.zeros((4, 3), dtype=np.int64))[2::2]
            assert ended.tolist() == [epoch == worlds.BUDGET] * 4
            assert ("final_obs" in infos) == (epoch == worlds.BUDGET)
        seen.append(tuple(spec.seed for spec in env._specs))
    assert all(set(a).isdisjoint(b) for a, b in pairwise(seen))
