"""Environments in workers: what stable-baselines3 expects of them, and that no death shows."""

from __future__ import annotations

import logging
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack, VecNormalize

from automix.agents.config.settings import RaySettings
from automix.agents.parallel.ray_session import ray_session
from automix.agents.parallel.worker import InlineWorker, Worker, WorkerDied, WorkerError
from automix.agents.vec_env.ray_env_state import (
    CannotKeepError,
    env_state,
    monitor_files,
    restore_env,
)
from automix.agents.vec_env.ray_hosted import rows_of
from automix.agents.vec_env.ray_hosting import EnvError, MissingAttributeError
from automix.agents.vec_env.ray_vec_env import HostedVecEnv, RayVecEnv, room_for, shares
from automix.core.errors import AutomixError, ConfigError, ResourceError
from automix.core.seeding import borrowed_global_rng
from automix.data.tasks import FamilySettings
from automix.envs import ImageWorld, MixEnv, MixVectorEnv, SurrogateVectorEnv
from tests import tiny
from tests.agents.ray_envs import Counting, Forgetful, KeptWalk, Shows, Walk

ROOT = Path(__file__).resolve().parents[2]
RAY = pytest.mark.ray
FAULT = pytest.mark.fault


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One Ray of two cores for all tests here."""
    with ray_session(RaySettings(), cpus=2):
        yield


@pytest.fixture(scope="module")
def actors(cluster) -> Iterator[list[Worker]]:
    """Two actors that nobody kills, and that take no core."""
    from automix.agents.parallel.ray_worker import RayWorker

    workers = [RayWorker(index, cpus=0) for index in range(2)]
    yield workers
    for worker in workers:
        worker.close()


@pytest.fixture(params=["inline", pytest.param("ray", marks=RAY)])
def workers(request) -> Sequence[Worker]:
    """Two workers, here and in Ray."""
    if request.param == "ray":
        return request.getfixturevalue("actors")
    return [InlineWorker(), InlineWorker()]


def same(one: Any, other: Any) -> None:
    """Fail if two results differ in a bit; seconds that a Monitor took do not count."""
    if isinstance(one, dict):
        assert set(one) == set(other)
        for name in set(one) - {"t"}:
            same(one[name], other[name])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            same(*pair)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    else:
        assert one == other


def played(env: VecEnv, steps: int, seed: int = 5) -> list[Any]:
    """Return all that some steps of some actions give."""
    env.seed(seed)
    seen: list[Any] = [env.reset(), list(env.reset_infos)]
    rng = np.random.default_rng(0)
    for _ in range(steps):
        seen.append(env.step(drawn(env, rng)))
        seen.append(list(env.reset_infos))
    return seen


def drawn(env: VecEnv, rng: np.random.Generator) -> np.ndarray:
    space = env.action_space
    high = space.nvec if isinstance(space, spaces.MultiDiscrete) else space.n
    return rng.integers(high, size=(env.num_envs, *space.shape))


def walks(count: int = 5, kind: Callable[..., Any] = Walk, **words: Any) -> list[Any]:
    return [partial(kind, **words) for _ in range(count)]


# What stable-baselines3 expects -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["CartPole-v1", Walk])
def test_equal_seeds_give_what_dummy_vec_env_gives(kind, workers):
    made = partial(make_vec_env, kind, 5, wrapper_class=partial(TimeLimit, max_episode_steps=30))
    wanted = played(made(), 100)
    for held in (workers, workers[:1]):
        env = made(vec_env_cls=HostedVecEnv, vec_env_kwargs={"workers": held})
        same(played(env, 100), wanted)
        env.close()


LEAVES = {
    "box": spaces.Box(-1, 1, (2, 3)),
    "image": spaces.Box(0, 255, (4, 4, 1), dtype=np.uint8),
    "discrete": spaces.Discrete(4),
    "many": spaces.MultiDiscrete([2, 3]),
    "binary": spaces.MultiBinary(3),
}


@pytest.mark.parametrize(
    "space",
    [*LEAVES.values(), spaces.Dict(LEAVES), spaces.Tuple(list(LEAVES.values()))],
    ids=[*LEAVES, "dict", "tuple"],
)
def test_observations_of_every_space_are_stacked_as_in_dummy_vec_env(space, workers):
    env_fns = [partial(Shows, space, spaces.Discrete(2))] * 3
    env = HostedVecEnv(env_fns, workers)
    assert env.observation_space == space
    same(played(env, 7), played(DummyVecEnv(env_fns), 7))
    env.close()


@pytest.mark.parametrize("space", LEAVES.values(), ids=LEAVES)
def test_actions_of_every_space_arrive(space, workers):
    env = HostedVecEnv([partial(Shows, spaces.Discrete(2), space)] * 3, workers)
    assert env.action_space == space
    env.reset()
    space.seed(0)
    actions = np.stack([space.sample() for _ in range(3)])
    for action, info in zip(actions, env.step(actions)[3], strict=True):
        np.testing.assert_array_equal(info["got"], action)
    env.close()


def test_observations_inside_of_each_other_are_stacked_too():
    """``DummyVecEnv`` refuses these."""
    space = spaces.Dict({"in": spaces.Dict(LEAVES), "pair": spaces.Tuple([LEAVES["box"]] * 2)})
    env = HostedVecEnv([partial(Shows, space, spaces.Discrete(2))] * 3, [InlineWorker()])
    observations = env.reset()
    assert observations["in"]["image"].shape == (3, 4, 4, 1)
    assert observations["pair"][1].shape == (3, 2, 3)


def test_an_episode_that_ends_shows_its_last_observation_and_the_next_ones_first(workers):
    env = HostedVecEnv(walks(4), workers)
    env.seed(1)
    env.reset()
    ends = 0
    for _ in range(20):
        before = list(env.reset_infos)
        observations, _, dones, infos = env.step(np.ones(4, dtype=np.int64))
        for number, (done, info) in enumerate(zip(dones, infos, strict=True)):
            assert ("terminal_observation" in info) == done
            if done:
                assert info["terminal_observation"][1] == info["left"]
                assert env.reset_infos[number]["left"] == observations[number, 1]
                assert info["TimeLimit.truncated"] == (info["left"] > 0)
            else:
                assert env.reset_infos[number] == before[number]
        ends += dones.sum()
    assert ends > 4
    env.close()


def test_seeds_count_for_one_reset(workers):
    env = HostedVecEnv(walks(3), workers)
    first = {}
    for seed in (7, 8, 7):
        assert list(env.seed(seed)) == [seed, seed + 1, seed + 2]
        observations = env.reset()
        np.testing.assert_array_equal(first.setdefault(seed, observations), observations)
        assert not np.array_equal(env.reset(), first[seed])
    assert not np.array_equal(first[7], first[8])
    np.testing.assert_array_equal(first[7][1:], first[8][:2])
    env.close()


def test_options_count_for_one_reset_and_go_to_who_is_meant(workers):
    env = HostedVecEnv(walks(3), workers)
    env.set_options({"start": 2.0})
    np.testing.assert_array_equal(env.reset()[:, 0], [2, 2, 2])
    np.testing.assert_array_equal(env.reset()[:, 0], [0, 0, 0])
    env.set_options([{"start": float(number)} for number in range(3)])
    np.testing.assert_array_equal(env.reset()[:, 0], [0, 1, 2])
    assert [info["options"] for info in env.reset_infos] == [{"start": float(n)} for n in range(3)]
    env.reset()
    assert [info["options"] for info in env.reset_infos] == [None] * 3
    env.close()


def test_attributes_and_methods_go_to_who_is_meant(workers):
    env = make_vec_env(Walk, 4, vec_env_cls=HostedVecEnv, vec_env_kwargs={"workers": workers})
    env.reset()
    assert env.get_attr("place") == [0.0] * 4
    env.set_attr("label", "a")
    env.set_attr("label", "b", indices=[3, 1])
    assert env.get_attr("label") == ["a", "b", "a", "b"]
    assert env.get_attr("label", indices=2) == ["a"]
    assert env.get_attr("label", indices=-1) == ["b"]
    assert env.env_method("push", 1.0, indices=[2]) == [1.0]
    assert env.env_method("push", by=1.0, twice=True, indices=[3, 2]) == [2.0, 3.0]
    assert env.get_attr("place") == [0.0, 0.0, 3.0, 2.0]
    assert env.has_attr("place")
    assert env.has_attr("np_random")
    assert not env.has_attr("nobody")
    with pytest.raises(AttributeError, match="nobody"):
        env.get_attr("nobody")
    with pytest.raises(AttributeError, match="environment 1: nobody failed"):
        env.env_method("nobody", indices=[1])
    with pytest.raises(IndexError):
        env.get_attr("place", indices=4)
    assert env.get_attr("place", indices=[3]) == [2.0]
    env.close()


def test_who_is_wrapped_is_told(workers):
    env = HostedVecEnv([Walk, lambda: Monitor(Walk()), partial(Counting, Walk())], workers)
    assert env.env_is_wrapped(Monitor) == [False, True, False]
    assert env.env_is_wrapped(Counting, indices=[2, 0]) == [True, False]
    env.close()


def test_pictures_are_tiled(workers):
    env = HostedVecEnv(walks(3, render_mode="rgb_array"), workers)
    env.seed(3)
    env.reset()
    wanted = DummyVecEnv(walks(3, render_mode="rgb_array"))
    wanted.seed(3)
    wanted.reset()
    assert env.render_mode == "rgb_array"
    same(env.get_images(), wanted.get_images())
    np.testing.assert_array_equal(env.render(), wanted.render())
    env.close()


def test_without_a_render_mode_there_are_no_pictures():
    env = HostedVecEnv(walks(2), [InlineWorker()])
    assert env.render_mode is None
    with pytest.warns(UserWarning, match="wanted rgb_array"):
        assert env.get_images() == [None, None]


def test_wrappers_of_sb3_stand_on_it(workers):
    made = partial(make_vec_env, Walk, 3)
    for wrap in (VecNormalize, partial(VecFrameStack, n_stack=2)):
        env = made(vec_env_cls=HostedVecEnv, vec_env_kwargs={"workers": workers})
        same(played(wrap(env), 15), played(wrap(made()), 15))
        env.close()


def test_masks_come_to_a_maskable_agent(workers):
    env = HostedVecEnv(walks(3), workers)
    env.seed(0)
    env.reset()
    assert is_masking_supported(env)
    left = np.array(env.get_attr("left"))
    np.testing.assert_array_equal(get_action_masks(env)[:, 1], left % 2 == 0)
    env.close()


def test_what_is_asked_in_mid_step_is_asked_after_it(workers):
    env, wanted = HostedVecEnv(walks(3), workers), DummyVecEnv(walks(3))
    for one in (env, wanted):
        one.seed(2)
        one.reset()
    env.step_async(np.zeros(3, dtype=np.int64))
    places = env.get_attr("place")
    same(env.step_wait(), wanted.step(np.zeros(3, dtype=np.int64)))
    assert places == wanted.get_attr("place")
    env.close()


def test_a_reset_in_mid_step_forgets_the_step(workers):
    env = HostedVecEnv(walks(3), workers)
    env.reset()
    env.step_async(np.zeros(3, dtype=np.int64))
    assert (env.reset()[:, 0] == 0).all()
    with pytest.raises(AutomixError, match="without step_async"):
        env.step_wait()
    env.close()


def test_what_comes_out_may_be_written_to(workers):
    env = HostedVecEnv(walks(2), workers)
    for _ in range(12):
        observations, rewards, dones, infos = env.reset(), *env.step(np.ones(2, dtype=int))[1:]
        for array in (observations, rewards, dones, *env.env_method("action_masks")):
            array[...] = 0
        for info in infos:
            info.get("terminal_observation", observations)[...] = 0
    env.close()


# Environments that are stacked --------------------------------------------------------------------


def stacked(count: int, mode: AutoresetMode = AutoresetMode.SAME_STEP) -> SyncVectorEnv:
    return SyncVectorEnv([Walk] * count, autoreset_mode=mode)


def test_environments_of_a_vector_env_are_environments_of_ours(workers):
    wanted = played(DummyVecEnv(walks(6)), 30)
    env = HostedVecEnv([partial(stacked, 2), Walk, partial(stacked, 3)], workers)
    assert env.num_envs == 6
    got = played(env, 30)
    for one, other in zip(got[::2], wanted[::2], strict=True):
        same(one if one is got[0] else one[:3], other if other is wanted[0] else other[:3])
    ended = 0
    for (*_, infos), (*_, others) in zip(got[2::2], wanted[2::2], strict=True):
        for info, other in zip(infos, others, strict=True):
            assert info["TimeLimit.truncated"] == other["TimeLimit.truncated"]
            assert info["left"] == other["left"]
            assert ("terminal_observation" in info) == ("terminal_observation" in other)
            if "terminal_observation" in info:
                same(info["terminal_observation"], other["terminal_observation"])
                ended += 1
    assert ended > 6
    for infos, others in zip(got[1::2], wanted[1::2], strict=True):
        assert [info["left"] for info in infos] == [other["left"] for other in others]
    env.set_options({"start": 1.0})
    np.testing.assert_array_equal(env.reset()[:, 0], np.ones(6))
    env.close()


def test_stacked_environments_share_their_options():
    env = HostedVecEnv([partial(stacked, 2)], [InlineWorker()])
    env.set_options([{"start": 1.0}, {"start": 2.0}])
    with pytest.raises(ConfigError, match=r"environments 0-1: reset failed: .* different options"):
        env.reset()


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED])
def test_a_vector_env_that_resets_at_another_time_is_refused(mode):
    with pytest.raises(ConfigError, match=rf"env_fns\[1\] failed: .*{mode.name}, wanted SAME_STEP"):
        HostedVecEnv([Walk, partial(stacked, 2, mode)], [InlineWorker()])


def test_infos_in_columns_become_one_each():
    columns = {
        "a": np.array([1, 2]),
        "_a": np.array([True, False]),
        "deep": {"b": np.array(["x", "y"], dtype=object), "_b": np.array([True, True])},
        "_deep": np.array([False, True]),
        "final_obs": (np.array([1.0, 2.0]), np.array([3.0, 4.0])),
        "_final_obs": np.array([False, True]),
        "_alone": np.array([5, 6]),
    }
    assert rows_of(columns, 2) == [
        {"a": 1, "_alone": 5},
        {"deep": {"b": "y"}, "final_obs": (2.0, 4.0), "_alone": 6},
    ]


def digits_world() -> ImageWorld:
    family = FamilySettings(
        dataset="digits", train_sizes=(40, 60), label_noise=(0.0, 0.4), val_size=30
    )
    return ImageWorld(family, tiny.trainer_settings(epochs=3), "cpu")


def digits_env() -> MixEnv:
    return MixEnv(digits_world())


def digits_group() -> MixVectorEnv:
    return MixVectorEnv(2, digits_world())


def surrogate_group() -> SurrogateVectorEnv:
    return SurrogateVectorEnv(3, 4, groups=2)


def surrogate_env() -> gymnasium.Env:
    return gymnasium.make("envs:automix/Surrogate-v0", budget=4)


@pytest.mark.parametrize("make", [digits_env, surrogate_env])
def test_our_own_environments_give_what_dummy_vec_env_gives(make, workers):
    env = HostedVecEnv([make] * 2, workers)
    same(played(env, 7), played(DummyVecEnv([make] * 2), 7))
    masks = env.env_method("action_masks")
    np.testing.assert_array_equal(masks[0], make().get_wrapper_attr("action_masks")())
    env.close()


@pytest.mark.parametrize("make", [digits_group, surrogate_group])
def test_our_own_groups_give_what_they_give_alone(make, workers):
    groups = [make(), make()]
    size = groups[0].num_envs
    env = HostedVecEnv([make, make], workers)
    env.seed(5)
    seeds = [[5 + first + place for place in range(size)] for first in (0, size)]
    wanted = [group.reset(seed=own)[0] for group, own in zip(groups, seeds, strict=True)]
    same(env.reset(), np.concatenate(wanted))
    assert env.reset_infos[size]["task"]["seed"] != env.reset_infos[0]["task"]["seed"]
    rng, ends = np.random.default_rng(0), 0
    for _ in range(9):
        actions = drawn(env, rng)
        observations, rewards, dones, infos = env.step(actions)
        alone = [g.step(a) for g, a in zip(groups, np.split(actions, 2), strict=True)]
        same(observations, np.concatenate([turn[0] for turn in alone]))
        same(rewards, np.concatenate([turn[1] for turn in alone]).astype(np.float32))
        same(dones, np.concatenate([turn[2] | turn[3] for turn in alone]))
        for number, info in enumerate(infos):
            columns, place = alone[number // size][4], number % size
            assert info["mix"] == columns["mix"][place]
            assert info["metrics"]["val_accuracy"] == columns["metrics"]["val_accuracy"][place]
            if dones[number]:
                same(info["terminal_observation"], columns["final_obs"][place])
                assert not info["TimeLimit.truncated"]
        ends += dones.all()
    assert ends == (3 if make is digits_group else 2)
    masks = np.array(env.env_method("action_masks"))
    np.testing.assert_array_equal(masks[:size], groups[0].action_masks())
    assert env.get_attr("group_size", indices=[0, size]) == [groups[0].group_size] * 2
    env.close()


# Mistakes ----------------------------------------------------------------------------------------


def broken() -> gymnasium.Env:
    raise RuntimeError("not\ntoday")


def test_an_environment_that_raises_is_named_in_one_line(workers, tmp_path, caplog):
    sign = tmp_path / "sign"
    env = HostedVecEnv([Walk, Walk, partial(Walk, str(sign)), Walk], workers)
    env.reset()
    sign.write_text("fail")
    with (
        caplog.at_level(logging.DEBUG, "automix"),
        pytest.raises(EnvError, match="environment 2: step failed: ValueError: no such place") as e,
    ):
        env.step(np.zeros(4, dtype=np.int64))
    assert "\n" not in str(e.value)
    assert e.value.exit_code == 1
    assert "in obey" in e.value.trace
    # The others are not left in the middle of something.
    assert len(env.get_attr("left")) == 4
    env.close()


@RAY
def test_the_traceback_of_an_actor_is_in_the_log(actors, tmp_path, caplog):
    sign = tmp_path / "sign"
    env = HostedVecEnv([Walk, partial(Walk, str(sign))], actors)
    env.reset()
    sign.write_text("fail")
    with (
        caplog.at_level(logging.DEBUG, "automix"),
        pytest.raises(EnvError, match="worker 1, environment 1: step failed"),
    ):
        env.step(np.zeros(2, dtype=np.int64))
    assert "in obey" in caplog.text
    env.close()


@pytest.mark.parametrize(
    ("env_fns", "words", "message"),
    [
        ([], {}, "env_fns is empty"),
        ([Walk, broken], {}, r"env_fns\[1\] failed: RuntimeError: not today"),
        ([Walk, dict], {}, r"env_fns\[1\] failed: it returned a dict, wanted a gymnasium.Env"),
        ([Walk], {"checkpoint_share": 2}, "checkpoint_share is 2, wanted a number from 0 to 1"),
    ],
)
def test_what_cannot_be_is_refused(env_fns, words, message, workers):
    with pytest.raises((ConfigError, EnvError), match=message):
        HostedVecEnv(env_fns, workers, **words)


@RAY
def test_a_function_that_cannot_be_sent_is_refused(actors):
    lock = threading.Lock()
    with pytest.raises(ConfigError, match=r"an env_fn cannot be sent to worker 0: cannot.*lock"):
        HostedVecEnv([lambda: lock], actors)


def test_one_environment_cannot_stand_for_two():
    env = Walk()
    with pytest.raises(ConfigError, match=r"env_fns\[1\] failed: it returned the env.* of another"):
        HostedVecEnv([lambda: env, lambda: env], [InlineWorker()])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"workers": 0}, "workers is 0, wanted 1 or more"),
        ({"threads": 0}, "threads is 0, wanted 1 or more"),
        ({"max_restarts": -1}, "max_restarts is -1, wanted 0 or more"),
        ({"step_timeout_s": float("nan")}, "step_timeout_s is nan"),
        ({"cpus_per_worker": -1}, "cpus_per_worker is -1"),
        ({"checkpoint_share": -1}, "checkpoint_share is -1"),
    ],
)
def test_arguments_are_checked_before_ray_is_touched(words, message):
    with pytest.raises(ConfigError, match=message):
        RayVecEnv([Walk], **words)


def test_what_is_closed_stays_closed():
    env = HostedVecEnv(walks(2), [worker := InlineWorker()])
    env.reset()
    env.close()
    for ask in (env.reset, partial(env.get_attr, "place"), partial(step_on, env, 1)):
        with pytest.raises(AutomixError, match="are closed"):
            ask()
    assert worker._state == {}


def test_errors_keep_their_kind_on_the_way():
    error = pickle.loads(pickle.dumps(MissingAttributeError("no such", "look", "trace")))
    assert isinstance(error, EnvError | AttributeError)
    assert (error.message, error.hint, error.trace) == ("no such", "look", "trace")


@pytest.mark.parametrize(("items", "hands"), [(1, 1), (5, 2), (6, 4), (3, 7), (16, 16)])
def test_functions_are_dealt_in_their_order_and_equally(items, hands):
    dealt = shares(items, hands)
    assert [number for held in dealt for number in held] == list(range(items))
    sizes = [len(held) for held in dealt]
    assert min(sizes) > 0
    assert max(sizes) - min(sizes) <= 1
    assert len(dealt) == min(items, hands)


# State -------------------------------------------------------------------------------------------


def wrapped_walk(kind: type[Walk] = KeptWalk, sign: str = "", path: str | None = None) -> Any:
    return Counting(Monitor(TimeLimit(kind(sign), max_episode_steps=6), path))


def test_a_wrapped_environment_goes_on_from_its_state():
    env = wrapped_walk()
    env.reset(seed=3)
    for _ in range(4):
        env.step(1)
    content = env_state(env)
    other = wrapped_walk()
    restore_env(other, content)
    for _ in range(2):
        outcome = env.step(2)
        same(other.step(2), outcome)
    assert outcome[2] or outcome[3]
    assert outcome[4]["episode"]["l"] <= 6
    same(other.reset(), env.reset())
    (total,) = other.get_wrapper_attr("get_episode_rewards")()
    assert round(total, 6) == outcome[4]["episode"]["r"]


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (Walk, "Walk offers no snapshot"),
        (lambda: Forgetful(KeptWalk()), "Forgetful holds seen, a set"),
        (lambda: stacked(1), "SyncVectorEnv offers no snapshot"),
    ],
)
def test_what_cannot_be_kept_whole_is_not_kept_at_all(make, why):
    env = make()
    env.reset(seed=0)
    with pytest.raises(CannotKeepError, match=why):
        env_state(env)


def test_what_is_set_from_outside_need_not_be_kept():
    env = Counting(KeptWalk())
    env.reset(seed=0)
    env.colours = {"red"}
    with pytest.raises(CannotKeepError, match="colours"):
        env_state(env)
    assert env_state(env, given={"colours"})


# Deaths ------------------------------------------------------------------------------------------


class Mortal(InlineWorker):
    """Dies in the calls of the numbers that it is given."""

    def __init__(self, number: int, deaths: Sequence[int] = (), max_restarts: int = 3) -> None:
        super().__init__()
        self.name, self.restarts = f"worker {number}", 0
        self._deaths, self._max, self.calls = set(deaths), max_restarts, 0

    def submit(self, function: Callable[..., Any], *args: Any) -> None:
        self.calls += 1
        super().submit(function, *args)
        if self.calls in self._deaths:
            self.close()

    def result(self) -> Any:
        if self.calls in self._deaths:
            raise WorkerDied(f"{self.name} died")
        return super().result()

    def close(self) -> None:
        """Close the files too, as the end of a process does."""
        for env in self._state["host"].envs if "host" in self._state else []:
            for file in monitor_files(env).values():
                file.close()
        super().close()

    def restart(self) -> None:
        self.close()
        if self.restarts == self._max:
            raise WorkerError(f"{self.name} died {self.restarts + 1} times (last: SIGKILL)")
        self.restarts += 1


def step_on(env: VecEnv, steps: int) -> None:
    for _ in range(steps):
        env.step(np.zeros(env.num_envs, dtype=np.int64))


def lived(env: VecEnv, act: int = 12) -> list[Any]:
    """Return what a life full of questions gives."""
    seen: list[Any] = played(env, 5)
    env.set_attr("bias", 0.5, indices=[1])
    rng = np.random.default_rng(1)
    for turn in range(act):
        seen.append(env.step(drawn(env, rng)))
        if turn % 4 == 1:
            seen.append(env.env_method("push", 0.25, indices=[0, 2]))
            env.set_attr("label", turn)
        seen.append(env.get_attr("place"))
    env.set_options({"start": 3.0})
    seen += [env.reset(), list(env.reset_infos), env.step(drawn(env, rng))]
    seen += [env.get_attr("bias"), env.get_attr("label")]
    return seen


@pytest.mark.parametrize("share", [1.0, 1e-9], ids=["always", "once"])
def test_a_worker_may_die_at_any_moment_and_nothing_shows(share):
    wanted = lived(DummyVecEnv([wrapped_walk] * 4))
    calm = Mortal(1)
    env = HostedVecEnv([wrapped_walk] * 4, [Mortal(0), calm], share)
    same(lived(env), wanted)
    assert calm.calls > 30
    # Alone, and again while everything is put back; it is not asked for anything before.
    for death in range(1, calm.calls + 1, 1 if share == 1 else 4):
        worker = Mortal(1, deaths=[death, death + 2])
        env = HostedVecEnv([wrapped_walk] * 4, [Mortal(0), worker], share)
        same(lived(env), wanted)
        assert worker.restarts == 2
        assert env.restarts == 2
        env.close()


def test_what_was_played_is_remembered_as_it_was():
    """The caller may use the array of actions again."""
    env = HostedVecEnv([KeptWalk], [worker := Mortal(0)], 1e-9)
    wanted = DummyVecEnv([KeptWalk])
    for one in (env, wanted):
        one.seed(0)
        one.reset()
    actions = np.array([2])
    env.step(actions)
    wanted.step(actions)
    actions[:] = 0
    worker._deaths = {worker.calls + 1}
    same(env.step(actions), wanted.step(actions))


@pytest.mark.parametrize("make", [digits_env, surrogate_env, digits_group, surrogate_group])
def test_our_own_environments_survive_a_death(make):
    wanted = played(HostedVecEnv([make] * 2, [InlineWorker()]), 7)
    for share in (1.0, 1e-9):
        for death in (6, 9, 12):
            worker = Mortal(1, deaths=[death])
            same(played(HostedVecEnv([make] * 2, [Mortal(0), worker], share), 7), wanted)
            assert worker.restarts == 1


@pytest.mark.parametrize("share", [0, 0.02])
def test_episodes_that_cannot_be_kept_end_with_the_worker(share, caplog):
    """The others' go on as if nothing had been."""
    kind = KeptWalk if share == 0 else Walk
    calm, env_fns = DummyVecEnv(walks(4, kind)), walks(4, kind)
    worker = Mortal(1)
    env = HostedVecEnv(env_fns, [Mortal(0), worker], share)
    for one in (env, calm):
        one.seed(5)
        one.reset()
        one.set_attr("bias", 0.5)
    before = env.step(np.zeros(4, dtype=np.int64))[0]
    same(before, calm.step(np.zeros(4, dtype=np.int64))[0])
    worker._deaths = {worker.calls + 1}
    with caplog.at_level(logging.WARNING, "automix"):
        observations, rewards, dones, infos = env.step(np.zeros(4, dtype=np.int64))
    wanted = calm.step(np.zeros(4, dtype=np.int64))
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
    (told,) = caplog.messages
    assert told.startswith("worker 1: the episodes of environments 2-3 end here, truncated")
    # Nothing of it is left.
    assert not env.step(np.zeros(4, dtype=np.int64))[2][2:].all()


def test_a_death_between_two_steps_ends_the_episode_in_the_next():
    worker = Mortal(0)
    env = HostedVecEnv(walks(2), [worker])
    env.seed(0)
    shown = env.reset()
    worker._deaths = {worker.calls + 1}
    assert env.get_attr("place") == [0.0, 0.0]
    observations, rewards, dones, infos = env.step(np.ones(2, dtype=np.int64))
    assert dones.all()
    assert not rewards.any()
    same([info["terminal_observation"] for info in infos], list(shown))
    np.testing.assert_array_equal(observations[:, 1], env.get_attr("left"))
    # A reset in between is all that is needed.
    worker._deaths = {worker.calls + 1}
    env.get_attr("place")
    env.reset()
    assert not env.step(np.ones(2, dtype=np.int64))[2].any()


def test_one_that_dies_too_often_ends_it_and_closes_the_others():
    other = Mortal(1)
    env = HostedVecEnv(walks(2, KeptWalk), [Mortal(0, range(6, 99)), other])
    env.seed(0)
    env.reset()
    with pytest.raises(WorkerError, match=r"worker 0 died 4 times \(last: SIGKILL\)"):
        step_on(env, 9)
    assert env.closed
    assert other._state == {}
    env.close()


@pytest.mark.parametrize("kind", [KeptWalk, Walk])
def test_no_line_of_a_monitor_file_is_lost_or_doubled(kind, tmp_path):
    paths = [str(tmp_path / f"{number}.monitor.csv") for number in range(2)]
    env_fns = [partial(wrapped_walk, kind, "", path) for path in paths]
    worker = Mortal(0)
    env = HostedVecEnv(env_fns, [worker], 1e-9)
    env.seed(0)
    env.reset()
    returns: list[list[float]] = [[], []]
    for step in range(30):
        if step in (14, 15):
            worker._deaths = {worker.calls + 1}
        for number, info in enumerate(env.step(np.ones(2, dtype=np.int64))[3]):
            if "episode" in info:
                returns[number].append(info["episode"]["r"])
    assert worker.restarts == 2
    env.close()
    for path, got in zip(paths, returns, strict=True):
        head, names, *rows = Path(path).read_text().splitlines()
        assert head.startswith("#")
        assert names == "r,l,t"
        assert len(got) > 3
        assert [float(row.split(",")[0]) for row in rows] == got


# Ray ---------------------------------------------------------------------------------------------


def actors_of(env: VecEnv) -> set[int]:
    return set(env.env_method("pid"))


def gone(pids: set[int], within_s: float = 10.0) -> bool:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.1)
    return False


@RAY
def test_an_agent_learns_the_same_in_actors_and_leaves_ray_alone(cluster):
    import ray

    weights, pids = [], set()
    for words in ({}, {"vec_env_cls": RayVecEnv, "vec_env_kwargs": {"cpus_per_worker": 1}}):
        with borrowed_global_rng(0):
            env = make_vec_env(KeptWalk, 4, seed=3, **words)
            agent = PPO("MlpPolicy", env, n_steps=8, batch_size=16, n_epochs=2, seed=1)
            agent.learn(96)
        weights.append(agent.policy.state_dict())
        pids = actors_of(env)
        env.step_async(np.zeros(4, dtype=np.int64))
        env.close()
        env.close()
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert ray.is_initialized()
    assert gone(pids)


@RAY
def test_what_ray_has_no_room_for_is_refused(cluster):
    assert room_for(RaySettings()) == 2
    assert room_for(RaySettings(cpus_per_worker=0.5)) == 4
    assert room_for(RaySettings(cpus_per_worker=5)) == 1
    assert room_for(RaySettings(gpus_per_worker=0.5)) == 1
    with pytest.raises(ResourceError, match="asked 3 CPU, cluster has 2"):
        RayVecEnv(walks(3), workers=3)


@RAY
def test_the_example_brings_its_own_ray_and_leaves_nothing(tmp_path):
    mark = f"AUTOMIX_TEST={uuid4().hex}"
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "ray_vec_env.py")],
        env={**os.environ, **dict([mark.split("=")]), "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "episodes, the last ones with return" in done.stdout
    assert gone(marked(mark))
    assert list(tmp_path.iterdir()) == []


def marked(mark: str) -> set[int]:
    """Return the processes that inherited a mark."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes():
                found.add(int(path.parent.name))
        except OSError:
            continue
    return found


@RAY
@FAULT
def test_an_actor_that_is_lost_changes_nothing(cluster, tmp_path, caplog, monkeypatch):
    """Killed in mid-step, killed between two calls, and hung in mid-step."""
    sign = tmp_path / "sign"
    env_fns = [partial(wrapped_walk, sign=str(sign)) for _ in range(4)]
    env = RayVecEnv(env_fns, workers=2, cpus_per_worker=0.5, step_timeout_s=6.0)
    calm, seen = DummyVecEnv([wrapped_walk] * 4), actors_of(env)
    for number, word in enumerate(("die", "kill", "hang"), start=1):
        if word == "kill":
            os.kill(env.env_method("pid", indices=[3])[0], signal.SIGKILL)
        else:
            sign.write_text(word)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "automix"):
            same(lived(env), lived(calm))
        assert not sign.exists()
        assert env.restarts == number
        (told,) = caplog.messages
        assert re.match(r"worker [01] died \(.*\): restarted", told)
        assert "hung" in told or word != "hang"
        seen |= actors_of(env)
    assert len(seen) == 2 + 3
    # Who hangs does not keep us from leaving.
    monkeypatch.setattr("automix.agents.vec_env.ray_vec_env.CLOSE_S", 1.0)
    sign.write_text("hang")
    env.step_async(np.zeros(4, dtype=np.int64))
    env.close()
    assert gone(seen)


@RAY
@FAULT
def test_an_actor_that_dies_too_often_is_told_and_nothing_is_left(cluster, tmp_path):
    sign = tmp_path / "sign"
    env_fns = [Walk, partial(Walk, str(sign))]
    env = RayVecEnv(env_fns, workers=2, cpus_per_worker=0.5, max_restarts=1)
    env.reset()
    pids = actors_of(env)
    sign.write_text("die always")
    with pytest.raises(WorkerError, match="worker 1 died 2 times"):
        step_on(env, 3)
    assert env.closed
    assert gone(pids)
