"""What the workers of ``WorkerVecEnv`` run: plain functions on a worker's ``state``.

Of all environments a worker has some in a row. They are called by their number among all in
errors, and by their place among those of the worker in arguments.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.env_util import is_wrapped

from automix.agents.parallel.worker import State, WorkerError
from automix.agents.vec_env.env_state import CannotKeepError, env_state, load_env_state
from automix.core.errors import AutomixError, ConfigError

MakeEnv = Callable[[], gymnasium.Env]

Start = tuple[Any, dict[str, Any]]
"""First observation of an episode, and its info."""

Transition = tuple[Any, float, bool, dict[str, Any] | None, dict[str, Any] | None]
"""Observation (of the next episode where one ended), reward, done, info, and the info of the next
episode. Without an info the episode ended because its worker had died."""


class EnvError(WorkerError):
    """An environment raised an error.

    Args:
        message: One line that names the environment and what it said.
        hint: The next step.
        trace: Where it happened.
    """

    def __init__(self, message: str, hint: str = "", trace: str = "") -> None:
        super().__init__(message, hint)
        self.trace = trace


class MissingAttributeError(EnvError, AttributeError):
    """An environment lacks an attribute; code that expects ``AttributeError`` understands it."""


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Name what failed, in one line; errors of ours keep their type."""
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
        message = f"{where} failed: {said}"
        raise EnvError(
            message, "the traceback is in the log at debug", traceback.format_exc()
        ) from None


def _each(state: State, what: str, do: Callable[..., Any], *columns: Sequence[Any]) -> list[Any]:
    """Return ``do(env, *row)`` of every environment, with one row of the columns each."""
    answers = []
    for place, row in enumerate(zip(state["envs"], *columns, strict=True)):
        with _named(f"environment {state['first'] + place}: {what}"):
            answers.append(do(*row))
    return answers


def _some(
    state: State, what: str, places: Sequence[int], do: Callable[[gymnasium.Env], Any]
) -> list[Any]:
    """Return ``do(env)`` of the environments at some places."""
    answers = []
    for place in places:
        with _named(f"environment {state['first'] + place}: {what}"):
            answers.append(do(state["envs"][place]))
    return answers


def build(
    state: State, first: int, env_fns: Sequence[MakeEnv], attributes: Sequence[dict[str, Any]]
) -> tuple[spaces.Space, spaces.Space]:
    """Build environments; return the observation and action space of the first.

    Args:
        state: Of the worker.
        first: Number of the first one among all.
        env_fns: Build them.
        attributes: To be set on each.
    """
    envs: list[gymnasium.Env] = []
    for number, make in enumerate(env_fns, first):
        with _named(f"env_fns[{number}]"):
            env = make()
            if not isinstance(env, gymnasium.Env):
                raise ConfigError(f"it returned a {type(env).__name__}, wanted a gymnasium.Env")
            if any(env.unwrapped is other.unwrapped for other in envs):
                raise ConfigError(
                    "it returned the environment of another, wanted a new one",
                    "build it inside the function: lambda: gymnasium.make(...)",
                )
        envs.append(env)
    state.update(envs=envs, first=first, given=set(), cut=None)
    for place, own in enumerate(attributes):
        for name, value in own.items():
            set_attribute(state, [place], name, value)
    return envs[0].observation_space, envs[0].action_space


def reset(
    state: State, seeds: Sequence[int | None], options: Sequence[dict[str, Any]]
) -> list[Start]:
    """Start an episode everywhere; options that are empty are not handed over."""
    state["cut"] = None

    def start(env: gymnasium.Env, seed: int | None, own: dict[str, Any]) -> Start:
        return env.reset(seed=seed, **({"options": own} if own else {}))

    return _each(state, "reset", start, seeds, options)


def start_over(
    state: State, seeds: Sequence[int | None], options: Sequence[dict[str, Any]]
) -> None:
    """Start episodes in the place of others that are lost, which the next ``step`` tells."""
    state["cut"] = reset(state, seeds, options)


def step(state: State, actions: Sequence[Any]) -> list[Transition]:
    """Take one action everywhere; an episode that ended is followed by the next."""
    if state["cut"] is not None:
        starts, state["cut"] = state["cut"], None
        return [(observation, 0.0, True, None, info) for observation, info in starts]
    # A copy, because what Ray delivers cannot be written to.
    return _each(state, "step", _step, list(np.array(actions)))


def _step(env: gymnasium.Env, action: Any) -> Transition:
    observation, reward, terminated, truncated, info = env.step(action)
    done, next_info = bool(terminated or truncated), None
    info["TimeLimit.truncated"] = truncated and not terminated
    if done:
        info["terminal_observation"] = observation
        observation, next_info = env.reset()
    return observation, float(reward), done, info, next_info


def get_attribute(state: State, places: Sequence[int], name: str) -> list[Any]:
    """Return an attribute of some environments, looked up through their wrappers."""
    return _some(state, "get_attr", places, lambda env: _found(env, name))


def has_attribute(state: State, places: Sequence[int], name: str) -> list[bool]:
    """Return which environments have an attribute, which need not be one that can be sent."""
    return _some(state, "has_attr", places, lambda env: env.has_wrapper_attr(name))


def set_attribute(state: State, places: Sequence[int], name: str, value: Any) -> list[None]:
    """Set an attribute of some environments, on the outermost wrapper as SB3 does."""
    state["given"].add(name)
    return _some(state, "set_attr", places, lambda env: setattr(env, name, value))


def call_method(
    state: State, places: Sequence[int], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[Any]:
    """Call a method of some environments."""
    return _some(state, name, places, lambda env: _found(env, name)(*args, **kwargs))


def _found(env: gymnasium.Env, name: str) -> Any:
    try:
        return env.get_wrapper_attr(name)
    except AttributeError as error:
        raise MissingAttributeError(str(error)) from None


def is_wrapped_in(state: State, places: Sequence[int], kind: type) -> list[bool]:
    """Return which environments have a wrapper of a class."""
    return _some(state, "env_is_wrapped", places, lambda env: is_wrapped(env, kind))


def render(state: State) -> list[Any]:
    """Return a picture of each environment."""
    return _each(state, "render", lambda env: env.render())


def state_dict(state: State) -> tuple[list[bytes], str]:
    """Return the state of every environment, or none of them and why it cannot be had."""
    try:
        return [env_state(env, state["given"]) for env in state["envs"]], ""
    except CannotKeepError as error:
        return [], str(error)


def load_state_dict(state: State, states: Sequence[bytes]) -> None:
    """Put new environments into the states that ``state_dict`` found."""
    for env, content in zip(state["envs"], states, strict=True):
        load_env_state(env, content)


def close(state: State) -> None:
    """Close the environments and forget them."""
    envs = state.get("envs", [])
    state.clear()
    for env in envs:
        env.close()
