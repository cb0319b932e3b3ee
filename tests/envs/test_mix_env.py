"""The environments whose step is an epoch: what gymnasium expects, and what members share."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env as gymnasium_check
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from numpy.testing import assert_allclose, assert_array_equal
from stable_baselines3.common.env_checker import check_env as sb3_check

from automix.core.errors import ConfigError
from automix.data.image_set import InMemory
from automix.data.tasks import TaskFamily
from automix.envs import (
    ActionCodec,
    ActionSettings,
    BoxActions,
    EnvSettings,
    FlatActions,
    ImageWorld,
    MixEnv,
    MixVectorEnv,
    SurrogateMixEnv,
    SurrogateVectorEnv,
)
from automix.mixes import MIXES
from automix.training.requirements import supports
from tests.envs import worlds
from tests.same import assert_same
from tests.step_contract import CNN, VIT

TINY: dict[str, Any] = {
    "automix/Mix-v0": lambda: {"world": worlds.image_world()},
    "automix/Surrogate-v0": lambda: {"budget": worlds.BUDGET},
}
"""Arguments that make an environment small, for those of one step an epoch."""

every_env = pytest.mark.parametrize("env_id", TINY)


def make(env_id: str, settings: EnvSettings) -> gymnasium.Env:
    return gymnasium.make(env_id, settings=settings, **TINY[env_id]())


def episode(env: gymnasium.Env, seed: int) -> np.ndarray:
    """Play one episode of random actions; return all observations and rewards."""
    rng = np.random.default_rng(7)
    found = [env.reset(seed=seed)[0]]
    ended = False
    while not ended:
        env.action_space.seed(int(rng.integers(2**31)))
        observation, reward, ended, truncated, _ = env.step(env.action_space.sample())
        assert truncated is False
        found += [observation, np.array([reward])]
    return np.concatenate(found)


@every_env
def test_the_checks_of_gymnasium_and_stable_baselines3_pass(env_id):
    for space in worlds.SPACES:
        env = make(env_id, worlds.settings(space)).unwrapped
        gymnasium_check(env)
        sb3_check(env)


@every_env
def test_make_needs_no_arguments(env_id):
    """The default world is the digits family; nothing is trained here."""
    env = gymnasium.make(env_id)
    assert env.observation_space.shape == (19,)
    assert env.action_space.nvec.tolist() == [4, 3, 1]


@every_env
def test_a_seed_fixes_the_episode_whatever_was_played_before(env_id):
    for space in worlds.SPACES:
        env = make(env_id, worlds.settings(space))
        first, other = episode(env, 5), episode(env, 6)
        assert_array_equal(first, episode(env, 5))
        assert_array_equal(first, episode(make(env_id, worlds.settings(space)), 5))
        if env_id == "automix/Mix-v0":
            assert not np.array_equal(first, other)


@every_env
def test_without_a_seed_the_next_episode_is_a_new_draw(env_id):
    env = make(env_id, worlds.settings())
    drawn = [env.reset(seed=3)[1]["task"], *(env.reset()[1]["task"] for _ in range(2))]
    assert len({task["seed"] for task in drawn}) == 3
    assert env.reset(seed=3)[1]["task"] == drawn[0]


@every_env
def test_progress_comes_first_numbers_are_finite_and_the_last_epoch_is_terminal(env_id):
    env = make(env_id, worlds.settings())
    observation, _ = env.reset(seed=0)
    seen = [float(observation[0])]
    for epoch in range(1, worlds.BUDGET + 1):
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        seen.append(float(observation[0]))
        assert terminated is (epoch == worlds.BUDGET)
        assert truncated is False
        assert info["metrics"]["epoch"] == epoch
        assert type(reward) is float
        assert observation.dtype == np.float32
        assert np.isfinite(observation).all()
        assert env.observation_space.contains(observation)
    assert seen == [0.0, 0.5, 1.0]


def test_a_step_before_the_first_reset_or_after_the_end_is_an_error_that_says_so():
    budget, disabled = worlds.BUDGET, AutoresetMode.DISABLED
    diverging = worlds.image_world(lr=1e30, warmup_epochs=0)
    envs = {
        "real": (MixEnv(worlds.image_world(), worlds.settings()), budget),
        "diverged": (MixEnv(diverging, worlds.settings()), 1),
        "closed form": (SurrogateMixEnv(budget), budget),
        "group": (SurrogateVectorEnv(2, budget, groups=2, autoreset_mode=disabled), budget),
        "wrapped": (FlatActions(SurrogateMixEnv(budget)), budget),
    }
    for case, (env, steps) in envs.items():
        for when in ("before reset", "after the end of the episode"):
            with pytest.raises(ConfigError, match=when) as error:
                env.step(env.action_space.sample())
            assert error.value.hint == "call env.reset() first", case
            env.reset(seed=0)
            ends = [np.all(env.step(env.action_space.sample())[2]) for _ in range(steps)]
            assert ends == [False] * (steps - 1) + [True], case
        env.reset()
        env.step(env.action_space.sample())
    with pytest.raises(ResetNeeded):
        gymnasium.make("automix/Surrogate-v0").step(np.zeros(3, dtype=int))


def test_what_is_no_action_is_refused_before_anything_is_trained():
    for space in ("factored", "flat", "box"):
        settings = worlds.settings(space)
        other = FlatActions if space == "factored" else BoxActions
        for env in (
            SurrogateMixEnv(3, settings),
            SurrogateVectorEnv(2, 3, settings, groups=2),
            other(SurrogateMixEnv(3, worlds.settings())),
        ):
            env.reset(seed=0)
            fits = np.asarray(env.action_space.sample())
            before = env.unwrapped.state_dict()
            shapes = (np.stack([fits, fits]), fits.tolist() if fits.ndim == 0 else fits[:-1])
            for wrong in (np.nan, -1, None, fits * np.nan, *shapes[: 1 + fits.ndim]):
                with pytest.raises(ConfigError, match=r"the action is .*, wanted .* in shape"):
                    env.step(wrong)
            assert_same(env.unwrapped.state_dict(), before)
            env.step(fits.tolist())


# Vector environments as gymnasium documents them --------------------------------------------------


def alike(ours: Any, gymnasiums: Any, where: str) -> None:
    """Fail if what came back differs in a key, a type or a number."""
    if isinstance(ours, dict):
        assert ours.keys() == gymnasiums.keys(), where
        for name in ours:
            alike(ours[name], gymnasiums[name], f"{where} {name}")
    elif isinstance(ours, tuple):
        for number, parts in enumerate(zip(ours, gymnasiums, strict=True)):
            alike(*parts, f"{where} {number}")
    else:
        # Last observations are one array here, and single ones in an array of objects there.
        assert ours.dtype == gymnasiums.dtype or where.endswith("final_obs"), where
        assert_array_equal(np.stack(ours), np.stack(gymnasiums), err_msg=where)


@pytest.mark.parametrize("mode", AutoresetMode)
def test_groups_of_one_answer_as_gymnasiums_own_vector_of_single_ones(mode):
    for space in ("factored", "flat", "box"):
        arguments = {"budget": 3, "settings": worlds.settings(space)}
        make = partial(gymnasium.make_vec, "automix/Surrogate-v0", 3, **arguments)
        ours = make(autoreset_mode=mode)
        wanted = make(vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode})
        assert isinstance(ours, SurrogateVectorEnv)
        assert (ours.spec.id, ours.metadata["autoreset_mode"]) == (wanted.spec.id, mode)
        ours.action_space.seed(0)
        alike(ours.reset(seed=5), wanted.reset(seed=5), space)
        for step in range(9):
            actions, where = ours.action_space.sample(), f"{space}, step {step}:"
            told = ours.step(actions)
            alike(told, wanted.step(actions), where)
            if mode is AutoresetMode.DISABLED and told[2].any():
                options = [{"reset_mask": told[2] | told[3]} for _ in range(2)]
                alike(ours.reset(options=options[0]), wanted.reset(options=options[1]), where)


def test_make_vec_makes_groups_and_wrappers_of_gymnasium_stand_on_them():
    make = partial(gymnasium.make_vec, world=worlds.image_world(), settings=worlds.settings())
    env = make("automix/Mix-v0", 4, group_size=2)
    assert (type(env), env.num_envs, env.group_size) == (MixVectorEnv, 4, 2)
    with pytest.raises(ConfigError, match="num_envs is 3, wanted a multiple of group_size, 2"):
        make("automix/Mix-v0", 3, group_size=2)
    counted = RecordEpisodeStatistics(SurrogateVectorEnv(2, 3, groups=2))
    counted.reset(seed=0)
    infos = [counted.step(counted.action_space.sample())[4] for _ in range(3)]
    assert infos[-1]["episode"]["l"].tolist() == [3] * 4


def test_a_reset_of_some_and_what_else_cannot_be_is_refused():
    env = SurrogateVectorEnv(2, 3, autoreset_mode=AutoresetMode.DISABLED)
    masks = ([True, False], [False, False], [True], [[True, True]], 1, np.array([0, 1]))
    for wrong in masks:
        with pytest.raises(ConfigError, match=r"reset_mask .* start together"):
            env.reset(options={"reset_mask": wrong})
    for seeds in ([1], [1, 2, 3], []):
        with pytest.raises(ConfigError, match=f"got {len(seeds)} seeds, wanted 2"):
            env.reset(seed=seeds)
    env.reset(options={"reset_mask": np.array([True, True])})
    with pytest.raises(ConfigError, match=r"env\.fork begins .* NEXT_STEP"):
        SurrogateVectorEnv(2, 3, EnvSettings(fork=True), autoreset_mode=AutoresetMode.NEXT_STEP)
    with pytest.raises(ValueError, match="AutoresetMode"):
        SurrogateVectorEnv(2, 3, autoreset_mode="later")
    for case, make in {
        "group_size is 0, wanted": lambda: SurrogateVectorEnv(0, 3),
        "groups is 0, wanted": lambda: SurrogateVectorEnv(2, 3, groups=0),
        "budget is 0, wanted": lambda: SurrogateMixEnv(0),
        "budget is 2.5, wanted": lambda: SurrogateMixEnv(2.5),
    }.items():
        with pytest.raises(ConfigError, match=case):
            make()


@every_env
def test_masks_offer_every_entry_and_info_names_what_was_really_played(env_id):
    # 3 mixes x 3 ratios x 3 saliencies and none; or 4 methods, 3 ratios, 3 saliencies
    for space, entries in (("flat", 28), ("factored", 10)):
        env = make(env_id, worlds.settings(space))
        assert env.unwrapped.action_masks().tolist() == [True] * entries
        env.reset(seed=0)
        codec = env.unwrapped.codec
        for mix in ("cutmix@0.25+spectral", "none"):
            chosen = next(action for action in codec.choices if str(action) == mix)
            assert env.step(codec.encode(chosen))[4]["mix"] == mix
    env.reset(seed=0)
    info = env.step(np.array([0, 2, 1]))[4]  # none, whatever comes with it
    assert (info["mix"], info["metrics"]["partner_share"]) == ("none", 0.0)


@pytest.mark.parametrize(("kind", "net"), [("cnn", CNN), ("vit", VIT)])
def test_an_episode_plays_every_mix_guided_and_not_and_tells_which(kind, net):
    entries = [entry for entry in MIXES.entries() if kind in supports(entry.info)]
    if kind == "vit":  # the net is slower, and does no more than the other for these
        entries = [
            e for e in entries if e.info.required(guided=False) or e.info.step or e.name == "none"
        ]
    names = [entry.name for entry in entries]
    actions = ActionSettings(methods=names, ratios=(0.3,), saliency=("off", "spectral"))
    choices = ActionCodec(actions).choices
    world = worlds.image_world(model=net)
    group = MixVectorEnv(len(choices), world, worlds.settings("flat", actions))
    group.reset(seed=1)
    for _ in range(worlds.BUDGET):
        observations, rewards, _, _, infos = group.step(np.arange(len(choices)))
        infos = infos.get("final_info", infos)
        assert [str(mix) for mix in infos["mix"]] == [str(action) for action in choices]
        assert np.isfinite(observations).all()
        assert np.isfinite(rewards).all()
    assert {action.method for action in choices} == set(names)


# Groups -------------------------------------------------------------------------------------------


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


def test_members_start_alike_and_other_actions_make_another_training():
    start, first, *_ = play(group_of(3), [CUTMIX, NONE, NONE], seed=11)
    assert_array_equal(start, [start[0]] * 3)
    assert not np.allclose(first[0], first[1])


@pytest.mark.parametrize("space", worlds.SPACES)
def test_a_single_environment_is_member_0_of_a_group(space):
    """Up to the order in which floats are added: the same seed draws the same task and weights."""
    settings = worlds.settings(space, name="loss_gain")
    env = MixEnv(worlds.image_world(), settings)
    group = MixVectorEnv(3, worlds.image_world(), settings)
    encode = env.codec.encode
    actions = [encode(a) for a in env.codec.choices[3:6]]
    one, task = env.reset(seed=8)
    several, group_task = group.reset(seed=8)
    assert task["task"] == {name: group_task["task"][name][0] for name in task["task"]}
    assert_allclose(several[0], one, rtol=1e-5, atol=1e-6)
    for epoch in range(worlds.BUDGET):
        one, reward, terminated, _, info = env.step(actions[epoch])
        others = [actions[epoch], actions[2], actions[2]]
        several, rewards, ended, _, infos = group.step(np.stack(others))
        several, infos = infos.get("final_obs", several), infos.get("final_info", infos)
        assert_allclose(several[0], one, rtol=1e-3, atol=1e-4)
        assert_allclose(rewards[0], reward, rtol=1e-3, atol=1e-4)
        assert infos["mix"][0] == info["mix"]
        assert ended[0] == terminated


def test_groups_start_again_together_in_the_step_that_ends_them():
    for groups in (1, 2):
        env = MixVectorEnv(2, worlds.image_world(), worlds.settings(), groups)
        assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
        seen = [set(env.reset(seed=1)[1]["task"]["seed"])]
        for _ in range(2):
            for epoch in range(1, worlds.BUDGET + 1):
                actions = np.stack([CUTMIX, NONE] * groups)
                observations, _, ended, truncated, infos = env.step(actions)
                assert ended.tolist() == [epoch == worlds.BUDGET] * 2 * groups
                assert not truncated.any()
                assert ("final_obs" in infos) == (epoch == worlds.BUDGET)
            assert (infos["final_obs"][:, 0] == 1.0).all()
            assert infos["_final_obs"].all()
            assert (observations[:, 0] == 0.0).all()
            seen.append({spec.seed for spec in env._specs})
        assert all(one.isdisjoint(other) for one, other in pairwise(seen))


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
    first, again = (group.reset(seed=seed)[1]["task"]["seed"] for seed in ([4, 9], 4))
    assert_array_equal(first, again, "of a list of seeds the first of each group counts")


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


def test_the_test_split_is_never_looked_at():
    """Its labels and pixels are poisoned; not a bit of what is seen changes."""
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
