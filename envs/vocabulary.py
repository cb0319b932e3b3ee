"""The word ``all`` in a vocabulary, expanded: what images and classifier can play.

A policy is saved with its vocabulary by name, and what ``all`` stands for changes with the net,
the images, the trainer's settings and the version. So it is expanded before anything is learned,
and runs and policies hold the names. Nothing that cannot be played is among them, so that action
masks have nothing to hide.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from automix.core.errors import AutomixError
from automix.envs.codec import ALL, ActionSettings
from automix.mixes import MIXES
from automix.mixing.actions import MAX_RATIO, OFF, PRESETS, MixAction, form_of, nearest_action
from automix.saliency import SALIENCY

log = logging.getLogger("automix")

Check = Callable[[Sequence[MixAction]], None]
"""Refuses actions that cannot be played, as ``World.check`` does."""


def expanded(settings: ActionSettings, check: Check) -> ActionSettings:
    """Return a vocabulary without the word ``all``; one line of the log says what that leaves out.

    Args:
        settings: Any; without the word it comes back as it is.
        check: Of the world that plays it.

    Raises:
        AutomixError: If a saliency provider that is named by itself can guide nothing here.
    """
    if ALL not in (*settings.methods, *settings.saliency):
        return settings
    left_out: dict[str, str] = {}
    saliency = _saliency(settings, check, left_out)
    methods = settings.methods
    if ALL in methods:
        methods = _methods(methods, saliency, check, left_out)
    if left_out:
        log.info("%r leaves out %s", ALL, _by_reason(left_out))
    return replace(settings, methods=methods, saliency=saliency)


def every_entry() -> Iterator[str]:
    """Yield ``none``, the other methods for images, and the published names."""
    yield "none"
    for entry in MIXES.entries():
        if entry.name != "none" and not entry.info.points:
            yield entry.name
    yield from PRESETS


def _saliency(settings: ActionSettings, check: Check, left_out: dict[str, str]) -> Sequence[str]:
    """Return the providers that can guide something, and those that are named."""
    guided = [entry for entry in _written(settings.methods, every_entry()) if _chooses(entry)]
    found = []
    for provider in _written(settings.saliency, [OFF, *SALIENCY]):
        named = provider in settings.saliency
        errors = [] if provider == OFF else _refusals(guided, provider, check)
        some = len(errors) < len(guided)
        if provider == OFF or some or (named and not guided):
            found.append(provider)
        elif named:
            raise errors[0]
        elif errors:
            left_out[provider] = errors[0].message
    return tuple(found)


def _chooses(entry: str) -> bool:
    """Return whether saliency is chosen apart for an entry."""
    form = form_of(entry)
    return form.saliency is None and MIXES.info(form.method).guided


def _methods(
    methods: Sequence[str], saliency: Sequence[str], check: Check, left_out: dict[str, str]
) -> Sequence[str]:
    """Return the entries that can be played with every provider given, and the named ones."""
    found, offered = [], set[MixAction]()
    for entry in _written(methods, every_entry()):
        actions = {nearest_action(entry, MAX_RATIO, provider) for provider in saliency}
        errors = [error for provider in saliency for error in _refusals([entry], provider, check)]
        # A published name for what is there already would be a second choice of the same.
        if entry in methods or not (errors or actions <= offered):
            found.append(entry)
            offered |= actions
        elif errors:
            left_out[entry] = errors[0].message
    return tuple(found)


def _written(words: Sequence[str], every: Iterable[str]) -> list[str]:
    """Return names, with every one that there is in the place of ``all``, each once."""
    names = list(every)
    return list(dict.fromkeys(n for word in words for n in (names if word == ALL else [word])))


def _refusals(entries: Sequence[str], provider: str, check: Check) -> list[AutomixError]:
    """Return why entries cannot be played with a provider: one error for each that cannot."""
    found = []
    for entry in entries:
        try:
            check([nearest_action(entry, MAX_RATIO, provider)])
        except AutomixError as error:
            found.append(error)
    return found


def _by_reason(left_out: Mapping[str, str]) -> str:
    """Return names, those with the same reason together, and the reasons."""
    names: dict[str, list[str]] = {}
    for name, message in left_out.items():
        reason = message.partition(" cannot be played: ")[2] or message
        names.setdefault(reason.removeprefix(f"{name} "), []).append(name)
    return "; ".join(f"{', '.join(own)} ({reason})" for reason, own in names.items())
