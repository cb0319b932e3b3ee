"""Settings of mix methods by name: what a paper leaves open, as ``method.parameter=value``."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

from automix.errors import ConfigError, did_you_mean
from automix.mixes import MIXES, MaskFunction

Options = Mapping[str, Mapping[str, Any]]
"""Method -> parameter -> value."""


def parameters_of(method: str) -> dict[str, Any]:
    """Return the settings of a mix method with their defaults."""
    signature = inspect.signature(MIXES[method])
    return {
        name: parameter.default
        for name, parameter in signature.parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


def options_of(words: Sequence[str]) -> Options:
    """Read ``method.parameter=value`` words, a later one over an earlier.

    Raises:
        ConfigError: If a word has another form, names something unknown, or its value is of
            another kind than the default.
    """
    found: dict[str, dict[str, Any]] = {}
    for word in words:
        method, parameter, value = _parsed(word)
        found.setdefault(method, {})[parameter] = value
    return found


def _parsed(word: str) -> tuple[str, str, Any]:
    where = f"trainer.mix.options: {word!r}"
    name, equals, text = word.partition("=")
    method, dot, parameter = name.partition(".")
    if not (equals and dot):
        raise ConfigError(
            f"{where} is not a setting, wanted method.parameter=value", "for example fmix.decay=2.5"
        )
    try:
        known = parameters_of(method)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.message}", error.hint) from None
    if parameter not in known:
        raise ConfigError(
            f"{where}: {method} has no setting {parameter!r}.{did_you_mean(parameter, known)}",
            f"{method} has: {', '.join(known) or 'none'}",
        )
    return method, parameter, _value(text, known[parameter], where)


def _value(text: str, default: Any, where: str) -> Any:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = text
    if isinstance(value, list):
        value = tuple(value)
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if type(value) is not type(default):
        raise ConfigError(
            f"{where}: got {type(value).__name__}, wanted {type(default).__name__}",
            f"its default is {json.dumps(default)}",
        )
    return value


@lru_cache
def configured(method: str, words: tuple[str, ...]) -> MaskFunction:
    """Return a mix method with the settings that the words give it."""
    chosen = options_of(words).get(method)
    return partial(MIXES[method], **chosen) if chosen else MIXES[method]
