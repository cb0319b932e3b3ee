"""Environments in workers: what stable-baselines3 expects of them, and that no death shows.

``DummyVecEnv`` is the oracle. ``test_ray_vec_env.py`` has the same in actors.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack, VecNormalize

from automix.agents.parallel.worker import InlineWorker, WorkerLost
from automix.agents.vec_env.env_host import EnvError, MissingAttributeError
from automix.agents.vec_env.worker_vec_env import WorkerVecEnv, shares
from automix.core.errors import AutomixError, ConfigError
from automix.data.tasks import FamilySettings
from automix.envs import ImageWorld, MixEnv, SurrogateMixEnv
from tests import tiny
from tests.agents.parallel.fragile import Deaths, FragileWorker
from tests.agents.vec_env import envs
from tests.agents.vec_env.envs import KeptWalk, Shows, Walk, played, same, wrapped_walk, zeros


def inline(count: int = 2) -> list[InlineWorker]:
    return [InlineWorker() for _ in range(count)]


def walks(count: int, kind: Callable[..., Any] = Walk, **words: Any) -> list[Any]:
    return [partial(kind, **words) for _ in range(count)]


# What stable-baselines3 expects -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["CartPole-v1", Walk])
def test_equal_seeds_give_what_dummy_vec_env_gives(kind):
    made = partial(make_vec_env, kind, 5, wrapper_class=partial(TimeLimit, max_episode_steps=30))
    wanted = played(made(), 100)
    for count in (1, 2, 7):
        env = made(vec_env_cls=WorkerVecEnv, vec_env_kwargs={"workers": inline(count)})
        same(played(env, 100), wanted)
        env.close()


LEAVES = {
    "box": spaces.Box(-1, 1, (2, 3)),
    "image": spaces.Box(0, 255, (4, 4, 1), dtype=np.uint8),
    "discrete": spaces.Discrete(4),
    "many": spaces.MultiDiscrete([2, 3]),
    "binary": spaces.MultiBinary(3),
}


def test_observations_of_every_space_are_stacked_as_in_dummy_vec_env():
    for space in (*LEAVES.values(), spaces.Dict(LEAVES), spaces.Tuple(list(LEAVES.values()))):
        env_fns = [partial(Shows, space, spaces.Discrete(2))] * 3
        env = WorkerVecEnv(env_fns, inline())
        assert env.observation_space == space
        same(played(env, 7), played(DummyVecEnv(env_fns), 7))
    # ``DummyVecEnv`` refuses these.
    nested = spaces.Dict({"in": spaces.Dict(LEAVES), "pair": spaces.Tuple([LEAVES["box"]] * 2)})
    observations = WorkerVecEnv([partial(Shows, nested, spaces.Discrete(2))] * 3, inline()).reset()
    assert observations["in"]["image"].shape == (3, 4, 4, 1)
    assert observations["pair"][1].shape == (3, 2, 3)


def test_actions_of_every_space_arrive():
    for name, space in LEAVES.items():
        env = WorkerVecEnv([partial(Shows, spaces.Discrete(2), space)] * 3, inline())
        assert env.action_space == space
        env.reset()
        space.seed(0)
        actions = np.stack([space.sample() for _ in range(3)])
        for action, info in zip(actions, env.step(actions)[3], strict=True):
            np.testing.assert_array_equal(info["got"], action, err_msg=name)


def questions(env: VecEnv) -> Iterator[Any]:
    """Ask all that SB3 asks four environments, the second of which has a ``Monitor`` around."""
    for seed in (7, 8, 7, None):  # seeds and options count for one reset
        yield list(env.seed(seed)) if seed else None
        env.set_options([{"start": float(seed or 0) * number} for number in range(4)])
        for _ in range(2 if seed else 0):
            yield from (env.reset(), list(env.reset_infos))
    env.set_options({"start": 2.0})
    env.seed(1)
    yield from (env.reset(), env.step(zeros(env)), list(env.reset_infos))
    env.set_attr("label", "a")
    env.set_attr("label", "b", indices=[3, 1])
    for indices in (None, 2, -1, [3, 0], [1, 1]):
        yield env.get_attr("label", indices=indices)
        yield env.env_method("push", 1.0, indices=indices)
        yield env.env_method("push", by=1.0, twice=True, indices=indices)
        yield env.env_is_wrapped(Monitor, indices=indices)
    yield env.get_attr("place")
    yield [env.has_attr(name) for name in ("place", "np_random", "label", "nobody")]
    yield from (env.render_mode, list(env.get_images()), env.render())
    yield from (is_masking_supported(env), get_action_masks(env))
    yield env.step(zeros(env))


def test_it_answers_all_that_dummy_vec_env_does():
    walk = partial(Walk, render_mode="rgb_array")
    env_fns = [walk, lambda: Monitor(walk()), walk, walk]
    env = WorkerVecEnv(env_fns, inline())
    wanted = list(questions(DummyVecEnv(env_fns)))
    for one, other in zip(questions(env), wanted, strict=True):
        same(one, other)
    assert not np.array_equal(env.reset(), env.reset()), "without a seed, other episodes"
    with pytest.raises(AttributeError, match="nobody"):
        env.get_attr("nobody")
    with pytest.raises(AttributeError, match="environment 1: nobody failed"):
        env.env_method("nobody", indices=[1])
    with pytest.raises(IndexError):
        env.get_attr("place", indices=4)
    assert len(env.get_attr("place", indices=[3])) == 1
    blind = WorkerVecEnv(walks(2), inline())
    assert blind.render_mode is None
    with pytest.warns(UserWarning, match="wanted rgb_array"):
        assert blind.get_images() == [None, None]


def test_wrappers_of_sb3_stand_on_it():
    made = partial(make_vec_env, Walk, 3)
    for wrap in (VecNormalize, partial(VecFrameStack, n_stack=2)):
        env = made(vec_env_cls=WorkerVecEnv, vec_env_kwargs={"workers": inline()})
        same(played(wrap(env), 15), played(wrap(made()), 15))


def test_what_is_asked_in_mid_step_is_asked_after_it():
    env, wanted = WorkerVecEnv(walks(3), inline()), DummyVecEnv(walks(3))
    for one in (env, wanted):
        one.seed(2)
        one.reset()
    env.step_async(zeros(env))
    places = env.get_attr("place")
    same(env.step_wait(), wanted.step(zeros(env)))
    assert places == wanted.get_attr("place")
    # A reset forgets the step.
    env.step_async(zeros(env))
    assert (env.reset()[:, 0] == 0).all()
    with pytest.raises(AutomixError, match="without step_async"):
        env.step_wait()


def digits_env() -> MixEnv:
    family = FamilySettings(
        dataset="digits", train_sizes=(40, 60), label_noise=(0.0, 0.4), val_size=30
    )
    return MixEnv(ImageWorld(family, tiny.trainer_settings(epochs=3), "cpu"))


def surrogate_env() -> gymnasium.Env:
    return gymnasium.make("envs:automix/Surrogate-v0", budget=4)


@pytest.mark.parametrize("make", [digits_env, surrogate_env])
def test_our_own_environments_give_what_dummy_vec_env_gives_also_after_a_death(make):
    wanted = played(DummyVecEnv([make] * 2), 7)
    env = WorkerVecEnv([make] * 2, inline())
    same(played(env, 7), wanted)
    masks = env.env_method("action_masks")
    np.testing.assert_array_equal(masks[0], make().get_wrapper_attr("action_masks")())
    for share in (1.0, 1e-9):
        for death in (4, 7, 9):
            workers = [FragileWorker(0, Deaths()), FragileWorker(1, Deaths([death]))]
            same(played(WorkerVecEnv([make] * 2, workers, share), 7), wanted)
            assert workers[1].restarts == 1


# Mistakes ----------------------------------------------------------------------------------------


def broken() -> gymnasium.Env:
    raise RuntimeError("not\ntoday")


def many() -> SyncVectorEnv:
    return SyncVectorEnv([Walk] * 2, autoreset_mode=AutoresetMode.SAME_STEP)


def test_an_environment_that_raises_is_named_in_one_line(tmp_path, caplog):
    sign = tmp_path / "sign"
    env = WorkerVecEnv([Walk, Walk, partial(Walk, str(sign)), Walk], inline())
    env.reset()
    sign.write_text("fail")
    told = r"^environment 2: step failed: ValueError: no such place$"
    with pytest.raises(EnvError, match=told) as e:
        env.step(zeros(env))
    assert e.value.exit_code == 1
    assert "in obey" in e.value.trace
    # The others are not left in the middle of something.
    assert len(env.get_attr("left")) == 4


def test_what_cannot_be_is_refused():
    lone = Walk()
    for env_fns, share, message in (
        ([], 0.1, "env_fns is empty"),
        ([Walk, broken], 0.1, r"env_fns\[1\] failed: RuntimeError: not today"),
        ([Walk, dict], 0.1, r"env_fns\[1\] failed: it returned a dict, wanted a gymnasium.Env"),
        ([many], 0.1, r"env_fns\[0\] failed: it returned a SyncVectorEnv, wanted a gymnasium.Env"),
        ([lambda: lone] * 2, 0.1, r"env_fns\[1\] failed: it returned the env.* of another"),
        ([Walk], 2, "checkpoint_share is 2, wanted a number from 0 to 1"),
    ):
        with pytest.raises((ConfigError, EnvError), match=message):
            WorkerVecEnv(env_fns, inline(1), share)


def test_more_or_fewer_actions_than_environments_are_refused():
    env = WorkerVecEnv(walks(3), inline(2))
    env.reset()
    for count in (0, 2, 4):
        with pytest.raises(ConfigError, match=f"got {count} actions, wanted 3"):
            env.step(np.zeros(count, dtype=int))
    env.step(zeros(env))


def test_nonsense_is_refused_by_the_environment_that_gets_it():
    env = WorkerVecEnv([partial(SurrogateMixEnv, 2)] * 3, inline(2))
    actions = np.zeros((3, 3), dtype=int)
    with pytest.raises(ConfigError, match=r"^environment 0: step failed: .* before reset"):
        env.step(actions)
    env.reset()
    actions[1, 2] = -1
    with pytest.raises(
        ConfigError, match=r"^environment 1: step failed: the action is -1 at \[2\]"
    ):
        env.step(actions)


def test_what_is_closed_stays_closed():
    env = WorkerVecEnv(walks(2), [worker := InlineWorker()])
    env.reset()
    env.close()
    for ask in (env.reset, partial(env.get_attr, "place"), partial(env.step, np.zeros(2, int))):
        with pytest.raises(AutomixError, match="are closed"):
            ask()
    assert worker._state == {}


def test_errors_keep_their_kind_on_the_way():
    error = pickle.loads(pickle.dumps(MissingAttributeError("no such", "look", "trace")))
    assert isinstance(error, EnvError)
    assert isinstance(error, AttributeError)
    assert (error.message, error.hint, error.trace) == ("no such", "look", "trace")


def test_functions_are_dealt_in_their_order_and_equally():
    for items, hands in ((1, 1), (5, 2), (6, 4), (3, 7), (16, 16)):
        dealt = [range(items)[own] for own in shares(items, hands)]
        assert [number for held in dealt for number in held] == list(range(items))
        sizes = [len(held) for held in dealt]
        assert min(sizes) > 0
        assert max(sizes) - min(sizes) <= 1
        assert len(dealt) == min(items, hands)


# Deaths ------------------------------------------------------------------------------------------


def fragile(at: Any = (), max_restarts: int = 3) -> tuple[list[FragileWorker], Deaths]:
    """Return two workers, and what kills the second."""
    deaths = Deaths(at)
    return [FragileWorker(0, Deaths()), FragileWorker(1, deaths, max_restarts)], deaths


@pytest.mark.parametrize("share", [1.0, 1e-9], ids=["always", "once"])
def test_a_worker_may_die_at_any_moment_and_nothing_shows(share):
    wanted = envs.lived(DummyVecEnv([wrapped_walk] * 4))
    workers, deaths = fragile()
    same(envs.lived(WorkerVecEnv([wrapped_walk] * 4, workers, share)), wanted)
    calls = deaths.calls
    assert calls > 30
    # Alone, and again while everything is put back.
    for death in range(0, calls, 1 if share == 1 else 4):
        workers, _ = fragile([death, death + 2])
        env = WorkerVecEnv([wrapped_walk] * 4, workers, share)
        same(envs.lived(env), wanted)
        assert workers[1].restarts == env.restarts == 2


def test_what_was_played_is_remembered_as_it_was():
    """The caller may use the array of actions again, and write to all that comes back."""
    deaths = Deaths()
    env = WorkerVecEnv([KeptWalk], [FragileWorker(0, deaths)], 1e-9)
    wanted = DummyVecEnv([KeptWalk])
    for one in (env, wanted):
        one.seed(0)
        one.reset()[...] = 0
    actions = np.array([2])
    for part in env.step(actions)[:3]:
        part[...] = 0
    wanted.step(actions)
    actions[:] = 0
    deaths.at = {deaths.calls}
    same(env.step(actions), wanted.step(actions))


@pytest.mark.parametrize("share", [0, 0.02])
def test_episodes_that_cannot_be_kept_end_with_the_worker(share, caplog):
    """The others' go on as if nothing had been."""
    kind = KeptWalk if share == 0 else Walk
    workers, deaths = fragile()
    calm, env = DummyVecEnv(walks(4, kind)), WorkerVecEnv(walks(4, kind), workers, share)
    for one in (env, calm):
        one.seed(5)
        one.reset()
        one.set_attr("bias", 0.5)
    before = env.step(zeros(env))[0]
    same(before, calm.step(zeros(env))[0])
    deaths.at = {deaths.calls}
    with caplog.at_level(logging.WARNING, "automix"):
        observations, rewards, dones, infos = env.step(zeros(env))
    wanted = calm.step(zeros(env))
    same([observations[:2], rewards[:2], dones[:2]], [part[:2] for part in wanted[:3]])
    same(infos[:2], wanted[3][:2])
    assert dones[2:].all()
    assert not rewards[2:].any()
    for number in (2, 3):
        assert infos[number]["TimeLimit.truncated"]
        same(infos[number]["terminal_observation"], before[number])
        assert env.reset_infos[number]["left"] == observations[number, 1]
    assert (observations[2:, 0] == 0).all(), "a new episode"
    assert not np.array_equal(observations[2:, 1], before[2:, 1] + 1), "and not the first again"
    assert env.get_attr("bias") == [0.5] * 4
    (told,) = [line for line in caplog.messages if "restarted" not in line]
    assert told.startswith("worker 1: the episodes of environments 2-3 end here, truncated")
    # Nothing of it is left, and the next death brings other episodes.
    after, _, dones, _ = env.step(zeros(env))
    assert not dones[2:].all()
    deaths.at = {deaths.calls}
    assert env.step(zeros(env))[2][2:].all()
    assert not np.array_equal(env.step(zeros(env))[0][2:], after[2:])


def test_a_death_between_two_steps_ends_the_episode_in_the_next():
    deaths = Deaths()
    env = WorkerVecEnv(walks(2), [FragileWorker(0, deaths)])
    env.seed(0)
    shown = env.reset()
    deaths.at = {deaths.calls}
    assert env.get_attr("place") == [0.0, 0.0]
    observations, rewards, dones, infos = env.step(np.ones(2, dtype=np.int64))
    assert dones.all()
    assert not rewards.any()
    same([info["terminal_observation"] for info in infos], list(shown))
    np.testing.assert_array_equal(observations[:, 1], env.get_attr("left"))
    # A reset in between is all that is needed.
    deaths.at = {deaths.calls}
    env.get_attr("place")
    env.reset()
    assert not env.step(np.ones(2, dtype=np.int64))[2].any()


def test_one_that_dies_too_often_ends_it_and_closes_the_others():
    workers, deaths = fragile(max_restarts=1)
    env = WorkerVecEnv(walks(4), workers)
    env.reset()
    deaths.at = range(deaths.calls, 10**6)
    with pytest.raises(WorkerLost, match="worker 1 died 2 times"):
        env.step(zeros(env))
    assert env.closed
    assert workers[0].state == {}
