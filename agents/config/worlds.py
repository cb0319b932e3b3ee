"""From the suite of a configuration to the worlds that are learned from and compared on."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from itertools import product
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from automix.agents.config.compose import load_settings
from automix.agents.config.draws import check_range, drawn_specs
from automix.agents.config.schema import build, schema_of
from automix.agents.config.settings import (
    HELD_OUT,
    VALIDATION,
    RunSettings,
    held_out_specs,
)
from automix.core.errors import ConfigError, DataError, did_you_mean
from automix.data.tasks import FamilySettings, TaskSpec
from automix.envs.worlds import WorldSettings, build_world, of_world
from automix.training.settings import TrainerSettings

SECTIONS: dict[str, type] = {"task": FamilySettings, "trainer": TrainerSettings}

FORM = "for example worlds.suite={small: {task: {train_sizes: [50]}, trainer: {epochs: [10, 30]}}}"

SEEDS_OF_A_WORLD = 2**16
"""Drawn tasks of different worlds have different seeds, by which results tell them apart."""

log = logging.getLogger("automix")


def worlds_of(settings: RunSettings) -> list[WorldSettings]:
    """Return the worlds of a run: those of its suite, or the one of ``task`` and ``trainer``.

    An entry of the suite says what differs from ``task`` and ``trainer``. Where it lists values for
    a key that takes one, it stands for a world with each of them, and several such lists for all
    combinations.

    Raises:
        ConfigError: If an entry has unknown keys or values, or fewer epochs than there are
            decisions; it is named.
    """
    worlds = _built_worlds(json.dumps(settings.worlds.suite), settings.task, settings.trainer)
    for world in worlds:
        with of_world(world.name):
            settings.env.starts(world.trainer.epochs)
    return list(worlds)


@lru_cache(maxsize=8)
def _built_worlds(
    suite: str, task: FamilySettings, trainer: TrainerSettings
) -> tuple[WorldSettings, ...]:
    """Build the worlds of a suite, given as JSON; a command asks ten times, and 37 take 0.8 s."""
    entries: dict[str, Any] = json.loads(suite)
    base = {"task": asdict(task), "trainer": asdict(trainer)}
    worlds = [world for name, own in entries.items() for world in _entry(name, own, base)]
    return tuple(worlds) or (WorldSettings(task, trainer),)


def learned_worlds(settings: RunSettings) -> list[WorldSettings]:
    """Return the worlds that controls search on: of ``compare.learned_on``, or the run's own.

    Raises:
        ConfigError: If there is no suite of that name.
    """
    name = settings.compare.learned_on
    if not name:
        return worlds_of(settings)
    try:
        return worlds_of(load_settings([f"worlds={name}"]))
    except ConfigError as error:
        raise ConfigError(f"compare.learned_on: {error.message}", error.hint) from None


def compared_worlds(settings: RunSettings) -> list[WorldSettings]:
    """Return the worlds that are compared on: those that ``compare.worlds`` names, or all.

    Raises:
        ConfigError: If a name is not of the suite.
    """
    worlds, names = worlds_of(settings), settings.compare.worlds
    chosen = []
    for name in names:
        own = [world for world in worlds if name in (world.name, _entry_of(world.name))]
        if not own:
            known = [world.name for world in worlds if world.name]
            raise ConfigError(
                f"compare.worlds names {name!r}, which is not in worlds.suite."
                f"{did_you_mean(name, known)}",
                f"known: {', '.join(known) or 'none, choose a suite with worlds=<name>'}",
            )
        chosen += [world for world in own if world not in chosen]
    return chosen or worlds


def present(settings: RunSettings) -> RunSettings:
    """Leave out worlds whose images are not here, where ``worlds.skip_missing`` allows it.

    Raises:
        AutomixError: If images cannot be read, and the world is not to be left out; or if none is
            left.
    """
    if not settings.worlds.suite:
        return settings
    kept = dict(settings.worlds.suite)
    for world in worlds_of(settings):
        entry = _entry_of(world.name)
        if entry not in kept:
            continue
        try:
            build_world([world])
        except DataError as error:
            if not settings.worlds.skip_missing:
                first = f"{error.hint}; or " if error.hint else ""
                hint = f"{first}go on without it: worlds.skip_missing=true"
                raise type(error)(error.message, hint) from None
            log.warning("%s; all of %r is left out", error.message, entry)
            del kept[entry]
    if not kept:
        raise ConfigError("worlds.suite has no world that can be had here")
    return replace(settings, worlds=replace(settings.worlds, suite=kept))


def held_out(settings: RunSettings) -> list[list[TaskSpec]]:
    """Return the tasks that are compared on, one list a kind; a drawn task is by itself."""
    compare, worlds = settings.compare, compared_worlds(settings)
    if compare.draws:
        return [[spec] for spec in _dealt_draws(worlds, compare.draws, HELD_OUT)]
    return [
        [replace(spec, world=world.name) for spec in kind]
        for world in worlds
        for kind in held_out_specs(compare, world.task)
    ]


def validation(settings: RunSettings) -> list[TaskSpec]:
    """Return the tasks that only fixed choices train on, to pick the best of them."""
    return _dealt_draws(compared_worlds(settings), settings.compare.validation_draws, VALIDATION)


def samples(settings: RunSettings) -> list[TaskSpec]:
    """Return held-out tasks to check and time: one a kind, or draws of three sizes a world."""
    specs = [kind[0] for kind in held_out(settings)]
    if not settings.compare.draws:
        return specs
    chosen: list[TaskSpec] = []
    for name in dict.fromkeys(spec.world for spec in specs):
        own = sorted((s for s in specs if s.world == name), key=lambda spec: spec.train_size)
        chosen += dict.fromkeys([own[0], own[len(own) // 2], own[-1]])
    return chosen


def world_of_task(settings: RunSettings) -> dict[str, WorldSettings]:
    """Return the worlds by name."""
    return {world.name: world for world in worlds_of(settings)}


def _dealt_draws(worlds: Sequence[WorldSettings], draws: int, seed: int) -> list[TaskSpec]:
    """Draw tasks of the worlds in turn, so that each has equally many, or one more."""
    specs = []
    for number, world in enumerate(worlds):
        share = len(range(number, draws, len(worlds)))
        if share and world.name:
            with of_world(world.name):
                check_range(world.task)
        own = drawn_specs(world.task, share, seed + number * SEEDS_OF_A_WORLD)
        specs += [replace(spec, world=world.name) for spec in own]
    return specs


def _entry_of(name: str) -> str:
    return name.partition(" ")[0]


def _entry(name: str, changes: Any, base: Mapping[str, Any]) -> Iterator[WorldSettings]:
    """Yield the worlds that an entry of the suite stands for."""
    if " " in name:
        raise ConfigError(f"worlds.suite has an entry {name!r}, wanted a name without blanks")
    changes = _sections(name, changes)
    axes = list(_axes(changes, base))
    for values in product(*(own for _, own in axes)):
        varied = dict(zip([path for path, _ in axes], values, strict=True))
        chosen = _chosen(changes, (), varied)
        with of_world(name):
            task, trainer = (_built(s, base[s], chosen.get(s, {})) for s in SECTIONS)
        words = [f"{path[-1]}={value}" for path, value in varied.items()]
        yield WorldSettings(task, trainer, " ".join([name, *words]))


def _sections(name: str, changes: Any) -> Mapping[str, Mapping[str, Any]]:
    """Return what an entry changes, which may be nothing, if it has the form of one."""
    changes = {} if changes is None else changes
    if not isinstance(changes, Mapping) or not set(changes) <= set(SECTIONS):
        got = ", ".join(sorted(map(str, changes))) if isinstance(changes, Mapping) else changes
        raise ConfigError(f"world {name!r} has {got}, wanted task and trainer", FORM)
    for section, values in changes.items():
        if not isinstance(values, Mapping):
            raise ConfigError(f"world {name!r}: {section} is {values!r}, wanted its keys", FORM)
        empty = [key for key, value in values.items() if isinstance(value, list) and not value]
        if empty:
            raise ConfigError(f"world {name!r}: {section}.{empty[0]} is an empty list", FORM)
    return changes


def _axes(
    changes: Mapping[str, Any], base: Mapping[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Sequence[Any]]]:
    """Yield the keys that have several values where one belongs, with the values."""
    for key, value in changes.items():
        usual = base.get(key) if isinstance(base, Mapping) else None
        if isinstance(value, Mapping):
            yield from _axes(value, usual or {}, (*path, key))
        elif isinstance(value, (list, tuple)) and not isinstance(usual, (list, tuple)):
            yield (*path, key), value


def _chosen(
    changes: Mapping[str, Any], path: tuple[str, ...], varied: Mapping[tuple[str, ...], Any]
) -> dict[str, Any]:
    """Return changes with one value for each key."""
    return {
        key: _chosen(value, (*path, key), varied)
        if isinstance(value, Mapping)
        else varied.get((*path, key), value)
        for key, value in changes.items()
    }


def _built(section: str, base: Mapping[str, Any], changes: Mapping[str, Any]) -> Any:
    """Build the settings of a section, checked as those of a run are."""
    kind = SECTIONS[section]
    try:
        usual = OmegaConf.merge(OmegaConf.structured(schema_of(kind)), base)
        values = OmegaConf.to_container(OmegaConf.merge(usual, changes), resolve=False)
    except OmegaConfBaseException as error:
        guess = did_you_mean(str(getattr(error, "key", "")), base)
        raise ConfigError(f"{section}: {str(error).splitlines()[0]}.{guess}", FORM) from None
    return build(kind, values)  # type: ignore[arg-type]
