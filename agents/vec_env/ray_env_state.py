"""State of an environment and its wrappers as bytes, where it can be had whole, and back.

An environment keeps itself by ``state_dict()`` and ``load_state_dict(state)``; any layer may offer
them and answers for all that is inside it. Of the wrappers outside of it, the plain attributes are
kept. A wrapper that holds anything else that may change makes the whole one that cannot be kept:
half a state would give results that look right.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers import PassiveEnvChecker
from stable_baselines3.common.monitor import ResultsWriter

from automix.core.snapshots import from_bytes, to_bytes

Files = dict[str, int | None]
"""Paths of files and how much of each counts, in bytes; all that is whole lines, if None."""


class CannotKeepError(Exception):
    """Why the state of an environment cannot be had."""


_OF_CONSTRUCTION = {
    *("env", "_metadata", "_cached_spec", "_saved_kwargs", "_ezpickle_args", "_ezpickle_kwargs")
}
"""Attributes of wrappers that are the same in a new one."""

_CHECKED = {
    "checked_reset": True,
    "checked_step": True,
    "checked_render": True,
    "checked_data_reuse": True,
}
"""Of the checker that ``gymnasium.make`` puts around: it looks at the first steps only."""

_CONSTANT = (spaces.Space, EnvSpec, Enum, ResultsWriter)


def env_state(env: Any, given: Collection[str] = ()) -> bytes:
    """Return all that the next step depends on.

    Args:
        env: An environment or a vector environment, wrapped or not.
        given: Names of attributes that are set anew before ``restore_env``.

    Raises:
        CannotKeepError: If there is something in it that cannot be had.
    """
    outside, keeper = _layers(env)
    if keeper is None:
        name = type(env.unwrapped).__name__
        raise CannotKeepError(f"{name} offers no snapshot() and restore()")
    wrappers = [_plain_attributes(layer, given) for layer in outside]
    return to_bytes({"wrappers": wrappers, "env": keeper.state_dict()})


def restore_env(env: Any, content: bytes) -> None:
    """Put a new environment into the state that ``env_state`` found."""
    state = from_bytes(content)
    outside, keeper = _layers(env)
    for layer, attributes in zip(outside, state["wrappers"], strict=True):
        vars(layer).update(attributes)
    keeper.load_state_dict(state["env"])


def _layers(env: Any) -> tuple[list[Any], Any]:
    """Return the layers outside of the first that keeps itself, and that one or None."""
    outside: list[Any] = []
    for layer in _inwards(env):
        # On the type: some wrappers pass on what they do not have themselves.
        if hasattr(type(layer), "state_dict") and hasattr(type(layer), "load_state_dict"):
            return outside, layer
        outside.append(layer)
    return outside, None


def _inwards(env: Any) -> Iterator[Any]:
    layer = env
    while layer is not layer.unwrapped:
        yield layer
        layer = layer.env
    yield layer


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


def monitor_files(env: Any) -> dict[str, IO[str]]:
    """Return the files that ``Monitor`` wrappers write, by path."""
    writers = (getattr(layer, "results_writer", None) for layer in _inwards(env))
    return {w.file_handler.name: w.file_handler for w in writers if isinstance(w, ResultsWriter)}


def file_sizes(envs: Sequence[Any]) -> Files:
    """Return how much the monitor files hold now."""
    return {path: Path(path).stat().st_size for env in envs for path in monitor_files(env)}


def content_of(files: Files) -> dict[str, str]:
    """Return what counts of some files; one that is not here is left out.

    To be called before environments are built, because a new ``Monitor`` empties its file.
    """
    contents = {}
    for path, size in files.items():
        try:
            content = Path(path).read_bytes()
        except OSError:  # written on another machine
            continue
        contents[path] = content[: content.rfind(b"\n") + 1 if size is None else size].decode()
    return contents


def put_back(envs: Sequence[Any], contents: dict[str, str]) -> None:
    """Let the monitor files hold what they held; what comes is written behind it."""
    for env in envs:
        for path, file in monitor_files(env).items():
            if path in contents:
                file.seek(0)
                file.truncate()
                file.write(contents[path])
                file.flush()
