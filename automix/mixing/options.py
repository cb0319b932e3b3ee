"""Settings of mix methods and label rules by name: what papers leave open."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, Literal

import numpy as np
import torch

from automix.core.errors import ConfigError, did_you_mean
from automix.core.registry import keyword_defaults
from automix.labels import LABEL_RULES, LabelRule, MixRecord, Weights
from automix.masks.pairing import pair_batches
from automix.masks.shapes import Constant
from automix.mixes import MIXES, MixFunction, MixInputs

Options = Mapping[str, Mapping[str, Any]]
"""Method or rule -> parameter -> value."""

SIDE = 8
"""Pixels of what values are tried on."""


def parameters_of(name: str) -> dict[str, Any]:
    """Return the settings of a mix method or label rule with their defaults.

    Raises:
        ConfigError: If there is neither.
    """
    return keyword_defaults(_function(name))


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


def options_of(options: Sequence[str]) -> Options:
    """Read options ``name.parameter=value``; a later one replaces an earlier.

    Raises:
        ConfigError: If an option has another form, names something unknown, or its value is of
            another kind than the default.
    """
    found: dict[str, dict[str, Any]] = {}
    for option in options:
        owner, parameter, value = _parsed(option)
        found.setdefault(owner, {})[parameter] = value
    return found


def _parsed(option: str) -> tuple[str, str, Any]:
    where = f"trainer.mix.options: {option!r}"
    name, equals, text = option.partition("=") if isinstance(option, str) else ("", "", "")
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
    hint = f"its default is {json.dumps(default)}"
    if isinstance(value, list) and isinstance(default, tuple):
        where = f"{where}: one of the values:"
        return tuple(_of_kind(one, default[0], where, hint) for one in value)
    return _of_kind(value, default, f"{where}:", hint)


def _of_kind(value: Any, default: Any, where: str, hint: str) -> Any:
    """Return a value as what the default is; a whole number will do for a float."""
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if type(value) is not type(default):
        got = "list" if isinstance(value, list) else type(value).__name__
        wanted = "list" if isinstance(default, tuple) else type(default).__name__
        raise ConfigError(f"{where} got {got}, wanted {wanted}", hint)
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{where} got {value}, wanted a finite number", hint)
    return value


@lru_cache
def configured(method: str, options: tuple[str, ...]) -> MixFunction:
    """Return a mix method with the settings that the options give it."""
    chosen = options_of(options).get(method)
    return partial(MIXES[method], **chosen) if chosen else MIXES[method]


@lru_cache
def configured_rule(rule: str, options: tuple[str, ...]) -> LabelRule:
    """Return a label rule with the settings that the options give it."""
    chosen = options_of(options).get(rule)
    return partial(LABEL_RULES[rule], **chosen) if chosen else LABEL_RULES[rule]


@lru_cache
def asks_net(rule: str, options: tuple[str, ...]) -> Literal["", "logits", "attention"]:
    """Return what a label rule, with the settings that options give it, wants of the net.

    Returns:
        ``logits`` of the mixed images, or ``attention``, which is seen inside the net only, where
        the net has a say in the targets; else nothing.
    """
    weights = configured_rule(rule, options)(_two_images())
    if not isinstance(weights, Weights) or weights.revision is None:
        return ""
    return "logits" if weights.watch is None else "attention"


def check_values(options: Sequence[str]) -> None:
    """Refuse what a method or rule refuses, before a training run does: try each on two draws.

    Raises:
        ConfigError: If one of them is refused.
    """
    for name in options_of(options):
        try:
            if name in MIXES:
                _try(name, tuple(options))
            else:
                configured_rule(name, tuple(options))(_two_images())
        except ConfigError as error:
            # Some messages name the method or rule, some do not.
            message = error.message.removeprefix(f"{name}.")
            raise ConfigError(f"trainer.mix.options: {name}.{message}", error.hint) from None


def _try(method: str, options: tuple[str, ...]) -> None:
    info = MIXES.info(method)
    if not info.step:
        configured(method, options)(_two_inputs(info.points))
    elif info.check is not None:
        info.check(**options_of(options)[method])


def _two_inputs(points: bool) -> MixInputs:
    """Return draws that any method can make masks from."""
    size = (SIDE, 1) if points else (SIDE, SIDE)
    images = torch.zeros((2, SIDE, 3) if points else (2, 3, *size))
    share, rng = np.full(2, 0.5, np.float32), np.random.default_rng(0)
    return MixInputs(share, size, 0.5, rng, images=images, pairs=pair_batches(2, 2, "roll", rng))


def _two_images() -> MixRecord:
    """Return what any rule can weigh."""
    rng, share = np.random.default_rng(0), np.full(2, 0.5, np.float32)
    maps = torch.full((2, SIDE, SIDE), 1 / SIDE**2)
    pairs = pair_batches(2, 2, "roll", rng)
    return MixRecord(Constant(share), share, pairs, rng, own=maps, partner=maps)
