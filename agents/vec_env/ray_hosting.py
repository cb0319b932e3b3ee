"""What the actors of ``RayVecEnv`` run: plain functions on a worker's ``state``.

See ``agents/parallel/worker.py`` for workers; nothing here knows Ray. An
environment is named by its number in the whole ``RayVecEnv`` when it fails, and by its place among
those of its worker when it is asked.
"""

from __future__ import annotations

import traceback
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.env_util import is_wrapped

from automix.agents.parallel.worker import State, WorkerError
from automix.agents.vec_env.ray_env_state import (
    CannotKeepError,
    Files,
    content_of,
    env_state,
    file_sizes,
    put_back,
    restore_env,
)
from automix.agents.vec_env.ray_hosted import Hosted, Stepped, by_leaf, hosted, joined
from automix.core.errors import AutomixError, ConfigError

T = TypeVar("T")
MakeEnv = Callable[[], Any]
"""Builds a ``gymnasium.Env`` or a ``gymnasium.vector.VectorEnv``."""


class EnvError(WorkerError):
    """An environment raised an error.

    Args:
        message: One line that names the worker, the environment and what it said.
        hint: The next step.
        trace: Where it happened.
    """

    def __init__(self, message: str, hint: str = "", trace: str = "") -> None:
        super().__init__(message, hint)
        self.trace = trace


class MissingAttributeError(EnvError, AttributeError):
    """An environment lacks an attribute; code that expects ``AttributeError`` understands it."""


class Host:
    """The environments of one worker.

    Args:
        name: Of the worker.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.first = 0
        """Number of the first environment in the whole."""
        self.hosted: list[Hosted] = []
        self._starts = [0]
        self.given: set[str] = set()
        """Names of attributes that were set from outside."""

    def add(self, number: int, make: MakeEnv) -> None:
        """Build one more, by the function of this number in the whole."""
        with _told(f"{self._name}: env_fns[{number}]"):
            one = hosted(make())
            if any(one.env.unwrapped is other.env.unwrapped for other in self.hosted):
                raise ConfigError(
                    "it returned the environment of another, wanted a new one",
                    "build it inside the function: lambda: gymnasium.make(...)",
                )
        self.hosted.append(one)
        self._starts.append(self._starts[-1] + one.size)

    @property
    def envs(self) -> list[Any]:
        """What the functions built."""
        return [one.env for one in self.hosted]

    @property
    def space(self) -> spaces.Space:
        """Of one environment's observations."""
        return self.hosted[0].spaces()[0]

    def each(self, what: str, do: Callable[[Hosted, slice], T]) -> list[T]:
        """Call ``do`` with everyone and the places that it holds."""
        answers = []
        for which, one in enumerate(self.hosted):
            with _told(self._where(which, what)):
                answers.append(do(one, slice(*self._starts[which : which + 2])))
        return answers

    def asked(self, what: str, places: Sequence[int], ask: Callable[[Hosted], Any]) -> list[Any]:
        """Return the answers of those who hold some places; who holds many is asked once."""
        holders = [bisect_right(self._starts, place) - 1 for place in places]
        answers = {}
        for which in dict.fromkeys(holders):
            with _told(self._where(which, what)):
                answers[which] = self.hosted[which].dealt(what, ask(self.hosted[which]))
        return [
            answers[which][place - self._starts[which]]
            for which, place in zip(holders, places, strict=True)
        ]

    def _where(self, which: int, what: str) -> str:
        first, end = (self.first + start for start in self._starts[which : which + 2])
        numbers = f"environments {first}-{end - 1}" if end > first + 1 else f"environment {first}"
        return f"{self._name}, {numbers}: {what}"


@contextmanager
def _told(where: str) -> Iterator[None]:
    """Say who failed, in one line; errors of ours keep their type."""
    try:
        yield
    except AutomixError as error:
        error.message = f"{where} failed: {error.message}"
        error.args = (error.message,)
        raise
    except (MemoryError, torch.OutOfMemoryError):
        raise  # which the worker explains
    except Exception as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise EnvError(
            f"{where} failed: {said}",
            "the traceback is in the log at debug",
            traceback.format_exc(),
        ) from None


def prepare(
    state: State, name: str, first_function: int, env_fns: Sequence[MakeEnv], files: Files
) -> tuple[list[int], tuple[spaces.Space, spaces.Space], Files]:
    """Build environments.

    Args:
        state: Of the worker.
        name: Of the worker.
        first_function: Number of the first function in the whole.
        env_fns: Build them.
        files: Monitor files of those that stood here before, and how much of each counts.

    Returns:
        How many environments each function gave, the spaces of one, and the monitor files.
    """
    contents = content_of(files)
    host = state["host"] = Host(name)
    for number, make in enumerate(env_fns, start=first_function):
        host.add(number, make)
    put_back(host.envs, contents)
    sizes = [one.size for one in host.hosted]
    return sizes, host.hosted[0].spaces(), dict.fromkeys(file_sizes(host.envs))


def number(state: State, first: int) -> None:
    """Call the environments by their numbers in the whole, from this one on."""
    state["host"].first = first


def reset(
    state: State, seeds: Sequence[int | None], options: Sequence[dict[str, Any]]
) -> tuple[Any, list[dict[str, Any]]]:
    """Start an episode everywhere; return stacked observations and one info each."""
    host: Host = state["host"]
    parts = host.each("reset", lambda one, own: one.reset(seeds[own], options[own]))
    observations, infos = zip(*parts, strict=True)
    return by_leaf(np.concatenate, observations, host.space), [i for own in infos for i in own]


def step(state: State, actions: Any) -> Stepped:
    """Take one action everywhere."""
    host: Host = state["host"]
    return joined(host.each("step", lambda one, own: one.step(actions[own])), host.space)


def get(state: State, places: Sequence[int], name: str) -> list[Any]:
    """Return an attribute of some environments."""
    return state["host"].asked("get_attr", places, lambda one: _found(one, name))


def has(state: State, name: str) -> bool:
    """Return whether all environments have an attribute, which need not be one that can be sent."""
    return all(_has(one, name) for one in state["host"].hosted)


def set_to(state: State, places: Sequence[int], name: str, value: Any) -> list[None]:
    """Set an attribute of some environments, on the outermost wrapper as SB3 does."""
    state["host"].given.add(name)
    return state["host"].asked("set_attr", places, lambda one: setattr(one.env, name, value))


def call(
    state: State, places: Sequence[int], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[Any]:
    """Call a method of some environments."""
    return state["host"].asked(name, places, lambda one: _found(one, name)(*args, **kwargs))


def wrapped(state: State, places: Sequence[int], kind: type) -> list[bool]:
    """Return which environments have a wrapper; one of a vector environment has none."""
    return state["host"].asked("env_is_wrapped", places, lambda one: is_wrapped(one.env, kind))


def images(state: State) -> list[Any]:
    """Return a picture of each environment."""
    pictures = state["host"].each("render", lambda one, own: one.images())
    return [picture for own in pictures for picture in own]


def _found(one: Hosted, name: str) -> Any:
    try:
        return one.attribute(name)
    except AttributeError as error:
        raise MissingAttributeError(str(error)) from None


def _has(one: Hosted, name: str) -> bool:
    try:
        one.attribute(name)
    except AttributeError:
        return False
    return True


@dataclass(frozen=True)
class Kept:
    """Environments as they are now."""

    states: list[bytes]
    """One for each function that built some; empty if they cannot be had."""
    files: Files
    why_not: str = ""


def keep(state: State) -> Kept:
    """Return the state of all environments, or why it cannot be had."""
    host: Host = state["host"]
    try:
        states = [env_state(env, host.given) for env in host.envs]
    except CannotKeepError as error:
        return Kept([], {}, str(error))
    return Kept(states, file_sizes(host.envs))


def load_state_dict(state: State, states: Sequence[bytes]) -> None:
    """Put new environments into the states that ``keep`` found."""
    for env, content in zip(state["host"].envs, states, strict=True):
        restore_env(env, content)


def close(state: State) -> None:
    """Close the environments and forget them."""
    host = state.pop("host", None)
    for env in host.envs if host else []:
        env.close()
