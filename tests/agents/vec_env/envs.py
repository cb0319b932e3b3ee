"""Environments for workers: small, importable by name, and some that die at a sign.

A sign is a file: the step that finds it does what the file says. Which step that is does not
change what an undisturbed environment would give.
"""

from __future__ import annotations

import os
import signal
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv


class Walk(gymnasium.Env):
    """A random walk of random length; its state is a generator and two numbers."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, sign: str = "", render_mode: str | None = None) -> None:
        self.sign, self.render_mode = sign, render_mode
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,))
        self.action_space = spaces.Discrete(3)
        self.bias = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(3, 9))
        self.place = (options or {}).get("start", 0.0)
        return self._shown(), {"left": self.left, "options": options}

    def step(self, action):
        obey(self.sign)
        self.place += float(self.np_random.normal()) + float(action) - 1 + self.bias
        self.left -= 1
        info = {"left": self.left, "twice": [self.place] * 2}
        return self._shown(), self.place, self.left == 0, self.place > 5, info

    def _shown(self):
        return np.array([self.place, self.left], dtype=np.float32)

    def render(self):
        return np.full((2, 3, 3), self.left, dtype=np.uint8)

    def push(self, by: float, *, twice: bool = False) -> float:
        """Change the state from outside."""
        self.place += by * (1 + twice)
        return self.place

    def pid(self) -> int:
        return os.getpid()

    def action_masks(self) -> np.ndarray:
        return np.array([True, self.left % 2 == 0, True])


class KeptWalk(Walk):
    """One that keeps itself."""

    def state_dict(self) -> dict[str, Any]:
        rng = self.np_random.bit_generator.state
        return {"rng": rng, "left": self.left, "place": self.place}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.np_random.bit_generator.state = state["rng"]
        self.left, self.place = state["left"], state["place"]


class Forgetful(gymnasium.Wrapper):
    """Holds something that a checkpoint cannot."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.seen: set[int] = set()


class Counting(gymnasium.Wrapper):
    """Holds plain state that a checkpoint can."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.steps, self.path = 0, np.zeros(2, dtype=np.float32)

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        self.steps += 1
        self.path = self.path + observation
        return observation, reward, terminated, truncated, {**info, "path": self.path}


def wrapped_walk(kind: type[Walk] = KeptWalk, sign: str = "") -> Any:
    """One under wrappers of which a checkpoint can keep all."""
    return Counting(Monitor(TimeLimit(kind(sign), max_episode_steps=6)))


def obey(sign: str) -> None:
    """Do what the file of this name says, if there is one; of several processes only one does."""
    taken = Path(f"{sign}.{os.getpid()}")
    try:
        os.rename(sign, taken)
    except FileNotFoundError:
        return
    word = taken.read_text()
    if word == "die always":
        taken.rename(sign)
    if word.startswith("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "hang":
        time.sleep(60)
    if word == "fail":
        raise ValueError("no such\nplace")


class Shows(gymnasium.Env):
    """Draws what it shows, and wants actions of its own, from given spaces."""

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space) -> None:
        # A copy, because a space has a generator.
        self.observation_space, self.action_space = deepcopy((observation_space, action_space))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.left = 3
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.left -= 1
        return self.observation_space.sample(), 1.0, self.left == 0, False, {"got": action}


# What is done with them, and what came back -------------------------------------------------------


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


def drawn(env: VecEnv, rng: np.random.Generator) -> np.ndarray:
    space = env.action_space
    high = space.nvec if isinstance(space, spaces.MultiDiscrete) else space.n
    return rng.integers(high, size=(env.num_envs, *space.shape))


def played(env: VecEnv, steps: int, seed: int = 5) -> list[Any]:
    """Return all that some steps of some actions give."""
    env.seed(seed)
    seen: list[Any] = [env.reset(), list(env.reset_infos)]
    rng = np.random.default_rng(0)
    for _ in range(steps):
        seen.append(env.step(drawn(env, rng)))
        seen.append(list(env.reset_infos))
    return seen


def lived(env: VecEnv, act: int = 12) -> list[Any]:
    """Return what a life full of questions gives, to four environments."""
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
    seen.append(env.env_method("get_episode_rewards"))  # what a ``Monitor`` holds
    return seen


def zeros(env: VecEnv) -> np.ndarray:
    return np.zeros(env.num_envs, dtype=np.int64)
