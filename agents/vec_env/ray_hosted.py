"""gymnasium environments under stable-baselines3's rules, one alone or many that are stacked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv

from automix.core.errors import ConfigError


@dataclass(frozen=True)
class Stepped:
    """What one step of some environments gave; the arrays' first axis is the environment."""

    observations: Any
    """An array, or a dict or tuple of arrays; of the new episode where one began."""
    rewards: np.ndarray
    dones: np.ndarray
    infos: list[dict[str, Any]]
    reset_infos: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Of the episodes that began, by the environment's place."""


class Hosted(Protocol):
    """One or more environments that are stepped together."""

    env: Any
    size: int

    def spaces(self) -> tuple[spaces.Space, spaces.Space]:
        """Return the observation and action space of one environment."""
        ...

    def reset(self, seeds: Sequence[int | None], options: Sequence[Any]) -> tuple[Any, list[Any]]:
        """Start episodes; return stacked observations and one info each."""
        ...

    def step(self, actions: Any) -> Stepped:
        """Take one action each; an episode that ended is followed by the next."""
        ...

    def attribute(self, name: str) -> Any:
        """Return what its outermost layer that has it calls ``name``."""
        ...

    def dealt(self, name: str, answer: Any) -> Sequence[Any]:
        """Return an answer to ``name`` as one for each environment."""
        ...

    def images(self) -> Sequence[Any]:
        """Return one picture each."""
        ...


class OneEnv:
    """A ``gymnasium.Env``, as ``DummyVecEnv`` treats it."""

    size = 1

    def __init__(self, env: gymnasium.Env) -> None:
        self.env = env

    def spaces(self) -> tuple[spaces.Space, spaces.Space]:
        """Return its spaces."""
        return self.env.observation_space, self.env.action_space

    def reset(self, seeds: Sequence[int | None], options: Sequence[Any]) -> tuple[Any, list[Any]]:
        """Start an episode; options that are empty are not handed over."""
        given = {"options": options[0]} if options[0] else {}
        observation, info = self.env.reset(seed=seeds[0], **given)
        return self._stacked(observation), [info]

    def step(self, actions: Any) -> Stepped:
        """Take a step; after the last of an episode, start the next."""
        observation, reward, terminated, truncated, info = self.env.step(actions[0])
        done = bool(terminated or truncated)
        info["TimeLimit.truncated"] = truncated and not terminated
        resets = {}
        if done:
            info["terminal_observation"] = observation
            observation, resets[0] = self.env.reset()
        rewards, dones = np.array([reward], dtype=np.float32), np.array([done])
        return Stepped(self._stacked(observation), rewards, dones, [info], resets)

    def _stacked(self, observation: Any) -> Any:
        return by_leaf(np.stack, [observation], self.env.observation_space)

    def attribute(self, name: str) -> Any:
        """Return an attribute of the environment or of a wrapper."""
        return self.env.get_wrapper_attr(name)

    def dealt(self, name: str, answer: Any) -> Sequence[Any]:
        """Return the answer."""
        return [answer]

    def images(self) -> Sequence[Any]:
        """Return its picture."""
        return [self.env.render()]


class StackedEnvs:
    """All environments of a ``gymnasium.vector.VectorEnv``, which must reset in the same step."""

    def __init__(self, env: VectorEnv) -> None:
        mode = env.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            raise ConfigError(
                f"{env} has autoreset_mode {getattr(mode, 'name', mode)}, wanted SAME_STEP",
                "build it with autoreset_mode=AutoresetMode.SAME_STEP",
            )
        self.env: Any = env
        self.size = env.num_envs

    def spaces(self) -> tuple[spaces.Space, spaces.Space]:
        """Return the spaces of one of them."""
        return self.env.single_observation_space, self.env.single_action_space

    def reset(self, seeds: Sequence[int | None], options: Sequence[Any]) -> tuple[Any, list[Any]]:
        """Start an episode in each; they share their options."""
        if any(option != options[0] for option in options):
            raise ConfigError(
                "environments that are stacked got different options, wanted the same for all"
            )
        given = None if all(seed is None for seed in seeds) else list(seeds)
        observations, columns = self.env.reset(seed=given, options=options[0] or None)
        return self._joined(observations), rows_of(columns, self.size)

    def step(self, actions: Any) -> Stepped:
        """Take a step in each."""
        step = self.env.step(np.asarray(actions))
        observations, rewards, terminated, truncated, columns = step
        dones, infos, resets = terminated | truncated, rows_of(columns, self.size), {}
        for place in range(self.size):
            info = infos[place]
            last, final = info.pop("final_obs", None), info.pop("final_info", None)
            if dones[place]:
                # With a ``final_info``, what stands beside it is of the new episode.
                infos[place], resets[place] = (info, {}) if final is None else (final, info)
                infos[place]["terminal_observation"] = last
            infos[place]["TimeLimit.truncated"] = bool(truncated[place] and not terminated[place])
        return Stepped(self._joined(observations), rewards.astype(np.float32), dones, infos, resets)

    def _joined(self, observations: Any) -> Any:
        return by_leaf(np.concatenate, [observations], self.env.single_observation_space)

    def attribute(self, name: str) -> Any:
        """Return an attribute of the whole or of a wrapper."""
        layer = self.env
        while not hasattr(layer, name) and layer is not layer.unwrapped:
            layer = layer.env
        return getattr(layer, name)

    def dealt(self, name: str, answer: Any) -> Sequence[Any]:
        """Return the same for each; masks come one by one."""
        return list(answer) if name == "action_masks" else [answer] * self.size

    def images(self) -> Sequence[Any]:
        """Return one picture each."""
        return list(self.env.render())


def hosted(env: Any) -> Hosted:
    """Return what hosts a ``gymnasium.Env`` or a ``gymnasium.vector.VectorEnv``."""
    if isinstance(env, VectorEnv):
        return StackedEnvs(env)
    if isinstance(env, gymnasium.Env):
        return OneEnv(env)
    raise ConfigError(
        f"it returned a {type(env).__name__}, wanted a gymnasium.Env or a gymnasium VectorEnv"
    )


def by_leaf(join: Callable[..., np.ndarray], parts: Sequence[Any], space: spaces.Space) -> Any:
    """Join observations array by array, in the types that the space names.

    Args:
        join: ``numpy.stack`` or ``numpy.concatenate``.
        parts: Observations, or stacks of them.
        space: Of one observation; a ``Dict`` or ``Tuple`` is followed inside.
    """
    if isinstance(space, spaces.Dict):
        return {
            name: by_leaf(join, [part[name] for part in parts], inner)
            for name, inner in space.spaces.items()
        }
    if isinstance(space, spaces.Tuple):
        return tuple(
            by_leaf(join, [part[place] for part in parts], inner)
            for place, inner in enumerate(space.spaces)
        )
    return join(parts, dtype=space.dtype, casting="unsafe")


def joined(parts: Sequence[Stepped], space: spaces.Space) -> Stepped:
    """Put what several gave into one, in their order."""
    infos: list[dict[str, Any]] = []
    resets: dict[int, dict[str, Any]] = {}
    for part in parts:
        resets |= {len(infos) + place: info for place, info in part.reset_infos.items()}
        infos += part.infos
    return Stepped(
        by_leaf(np.concatenate, [part.observations for part in parts], space),
        np.concatenate([part.rewards for part in parts]),
        np.concatenate([part.dones for part in parts]),
        infos,
        resets,
    )


def row(batch: Any, place: int) -> Any:
    """Return one environment's part of stacked observations."""
    if isinstance(batch, dict):
        return {name: row(part, place) for name, part in batch.items()}
    if isinstance(batch, tuple):
        return tuple(row(part, place) for part in batch)
    return batch[place]


def rows_of(columns: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Turn gymnasium's dict of arrays with ``_`` masks into one info for each environment."""
    rows: list[dict[str, Any]] = [{} for _ in range(count)]
    for name, values in columns.items():
        if name.startswith("_") and name[1:] in columns:
            continue
        shown = columns.get(f"_{name}", np.ones(count, dtype=bool))
        parts = rows_of(values, count) if isinstance(values, dict) else values
        for place in np.flatnonzero(shown).tolist():
            rows[place][name] = row(values, place) if isinstance(values, tuple) else parts[place]
    return rows
