"""State of an environment and its wrappers as bytes, where it can be had whole, and back.

An environment keeps itself by ``state_dict()`` and ``load_state_dict(state)``; any layer may offer
them and answers for all that is inside it. Of the wrappers outside of it, the plain attributes are
kept. A wrapper that holds anything else that may change makes the whole one that cannot be kept:
half a state would give results that look right.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers import PassiveEnvChecker

from automix.core.snapshots import from_bytes, to_bytes


class CannotKeepError(Exception):
    """Why the state of an environment cannot be had."""


_OF_CONSTRUCTION = {
    *("env", "_metadata", "_cached_spec", "_saved_kwargs", "_ezpickle_args", "_ezpickle_kwargs"),
    "results_writer",  # a file of SB3's ``Monitor``
}
"""Attributes of wrappers that are the same in a new one."""

_CHECKED = {
    name: True for name in ("checked_reset", "checked_step", "checked_render", "checked_data_reuse")
}
"""Of the checker that ``gymnasium.make`` puts around: it looks at the first steps only."""

_CONSTANT = (spaces.Space, EnvSpec, Enum)


def env_state(env: gymnasium.Env, given: Collection[str] = ()) -> bytes:
    """Return all that the next step depends on.

    Args:
        env: An environment, wrapped or not.
        given: Names of attributes that are set anew before ``load_env_state``.

    Raises:
        CannotKeepError: If there is something in it that cannot be had.
    """
    outside, keeper = _layers(env)
    if keeper is None:
        name = type(env.unwrapped).__name__
        raise CannotKeepError(f"{name} offers no state_dict() and load_state_dict()")
    wrappers = [_plain_attributes(layer, given) for layer in outside]
    return to_bytes({"wrappers": wrappers, "env": keeper.state_dict()})


def load_env_state(env: gymnasium.Env, content: bytes) -> None:
    """Put a new environment into the state that ``env_state`` found."""
    state = from_bytes(content)
    outside, keeper = _layers(env)
    for layer, attributes in zip(outside, state["wrappers"], strict=True):
        vars(layer).update(attributes)
    keeper.load_state_dict(state["env"])


def _layers(env: Any) -> tuple[list[Any], Any]:
    """Return the layers outside of the first that keeps itself, and that one or None."""
    outside: list[Any] = []
    while True:
        # On the type: some wrappers pass on what they do not have themselves.
        if hasattr(type(env), "state_dict") and hasattr(type(env), "load_state_dict"):
            return outside, env
        outside.append(env)
        if env is env.unwrapped:
            return outside, None
        env = env.env


def _plain_attributes(layer: Any, given: Collection[str]) -> dict[str, Any]:
    if isinstance(layer, PassiveEnvChecker):
        return dict(_CHECKED)
    plain = {}
    for name, value in vars(layer).items():
        if name in _OF_CONSTRUCTION or callable(value) or isinstance(value, _CONSTANT):
            continue
        if _is_plain(value):
            plain[name] = value
        elif name not in given:
            what = f"{type(layer).__name__} holds {name}, a {type(value).__name__}"
            raise CannotKeepError(f"the wrapper {what}, which a checkpoint cannot")
    return plain


def _is_plain(value: Any) -> bool:
    """Say whether a snapshot gives back the same, of the same type."""
    kind = type(value)
    if kind is dict:
        return all(type(key) in (str, int) and _is_plain(part) for key, part in value.items())
    if kind in (list, tuple):
        return all(map(_is_plain, value))
    if kind is np.ndarray:
        return value.dtype.kind in "biuf"
    return value is None or kind in (bool, int, float, str, torch.Tensor)
