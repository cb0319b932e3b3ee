"""Settings of mix methods and label rules by name: what papers leave open."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

from automix.errors import ConfigError, did_you_mean
from automix.labels import LABEL_RULES, LabelRule
from automix.mixes import MIXES, MaskFunction

Options = Mapping[str, Mapping[str, Any]]
"""Method or rule -> parameter -> value."""


def parameters_of(name: str) -> dict[str, Any]:
    """Return the settings of a mix method or label rule with their defaults.

    Raises:
        ConfigError: If there is neither.
    """
    signature = inspect.signature(_function(name))
    return {
        name: parameter.default
        for name, parameter in signature.parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


def _function(name: str) -> Callable[..., Any]:
    found = [table[name] for table in (MIXES, LABEL_RULES) if name in table]
    if not found:
        known = sorted({*MIXES, *LABEL_RULES})
        raise ConfigError(
            f"{name!r} is not a mix method or label rule.{did_you_mean(name, known)}",
            f"known: {', '.join(known)}",
        )
    if len(found) > 1:
        raise ValueError(f"{name!r} is both a mix method and a label rule, and has two settings")
    return found[0]


def options_of(words: Sequence[str]) -> Options:
    """Read ``name.parameter=value`` words, a later one over an earlier.

    Raises:
        ConfigError: If a word has another form, names something unknown, or its value is of
            another kind than the default.
    """
    found: dict[str, dict[str, Any]] = {}
    for word in words:
        owner, parameter, value = _parsed(word)
        found.setdefault(owner, {})[parameter] = value
    return found


def _parsed(word: str) -> tuple[str, str, Any]:
    where = f"trainer.mix.options: {word!r}"
    name, equals, text = word.partition("=")
    owner, dot, parameter = name.partition(".")
    if not (equals and dot):
        raise ConfigError(
            f"{where} is not a setting of a mix method or label rule, wanted name.parameter=value",
            "for example perturbed.strength=0.4",
        )
    try:
        known = parameters_of(owner)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.message}", error.hint) from None
    if parameter not in known:
        raise ConfigError(
            f"{where}: {owner} has no setting {parameter!r}.{did_you_mean(parameter, known)}",
            f"{owner} has: {', '.join(known) or 'none'}",
        )
    return owner, parameter, _value(text, known[parameter], where)


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


@lru_cache
def configured_rule(rule: str, words: tuple[str, ...]) -> LabelRule:
    """Return a label rule with the settings that the words give it."""
    chosen = options_of(words).get(rule)
    return partial(LABEL_RULES[rule], **chosen) if chosen else LABEL_RULES[rule]
