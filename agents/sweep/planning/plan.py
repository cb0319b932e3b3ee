"""From overrides to a sweep's trials: composed and checked before anything starts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from automix.agents.config.agent import names_of, settings_class
from automix.agents.config.compose import load_settings, read_section
from automix.agents.config.settings import RaySettings, RunSettings
from automix.agents.jobs.check import check, expanded, going_on, tell_images
from automix.agents.learning.algorithms import updates_of
from automix.agents.learning.training import may_change
from automix.agents.parallel.machine import fit
from automix.agents.parallel.ray_session import capacity
from automix.agents.runs.progress import progress
from automix.agents.runs.rundir import plain
from automix.agents.sweep.planning.schedule import Schedule, read_schedule
from automix.agents.sweep.planning.space import Choice, Space, key_of, space_of
from automix.agents.sweep.settings import SLICES, SweepSettings
from automix.core.errors import AutomixError, ConfigError, ResourceError
from automix.core.settings import values_that_decide

SEED, LENGTH = "seed", "agent.total_timesteps"

NOT_OF_A_TRIAL = {
    "name": "a sweep has sweep.name",
    "workers": "a trial has sweep.cpus_per_trial workers",
    "threads": "a trial's processes have one thread each",
    "backend": "trials are Ray's work, each with processes of its own",
}
"""Keys that a sweep sets itself."""

BEFORE_ALL = (LENGTH, "agent.learning_starts")
"""Settings of an agent that are read when learning begins, and never later."""


@dataclass(frozen=True)
class SweepTrial:
    """One run of a sweep.

    Attributes:
        hash: Names its folder; the same for the same settings, whatever overrides they came from.
        values: What the sweep chose, key to value as text; in a search, what it starts with.
        overrides: All of them, as ``train`` takes them.
        settings: What these overrides make.
    """

    hash: str
    values: Mapping[str, str]
    overrides: Sequence[str]
    settings: RunSettings

    def __str__(self) -> str:
        """Return the values that distinguish it from the others."""
        return text_of(self.values) or self.hash


@dataclass(frozen=True)
class SweepPlan:
    """A sweep before it starts.

    Attributes:
        overrides: As typed.
        settings: Of the sweep.
        ray: Where it runs.
        space: What its overrides leave open.
        trials: In order.
        updates: Of a trial's whole learning in a search; 0 in a grid, whose trials may differ.
        interval: Updates between two judgements in a search.
        schedule: What a replay follows.
    """

    overrides: Sequence[str]
    settings: SweepSettings
    ray: RaySettings
    space: Space
    trials: Sequence[SweepTrial]
    updates: int = 0
    interval: int = 0
    schedule: Schedule | None = None

    @property
    def keys(self) -> list[str]:
        """What is swept, in the order of the overrides."""
        return [one.key for one in self.space.dimensions]

    def settings_with(self, values: Mapping[str, str]) -> RunSettings:
        """Return the settings of a trial with these values."""
        return _composed(tuple(self.space.overrides_with(values)), self.settings)


def plan_of(overrides: Sequence[str]) -> SweepPlan:
    """Compose every trial of a sweep.

    Args:
        overrides: As ``train`` takes them, some with several values; ``sweep.<key>=value`` for the
            sweep itself, ``ray.<key>=value`` for where it runs.

    Raises:
        ConfigError: If an override cannot be used, or a combination of them; it says which.
        DataError: If a replay has no schedule.
    """
    settings, ray, rest = _sections(overrides)
    if settings.search == "replay":
        return _replay(overrides, settings, ray, rest)
    space = space_of(rest, intervals=settings.searches)
    if not settings.searches:
        trials = [_trial(space, settings, point) for point in space.every()]
        _refuse_twins(trials)
        return SweepPlan(tuple(overrides), settings, ray, space, trials)
    _refuse_keys(space, settings)
    seed = load_settings([one for one in space.fixed if key_of(one) == SEED]).seed
    trials = [_trial(space, settings, point) for point in space.draw(settings.trials, seed)]
    updates = _updates(trials)
    interval = settings.interval or max(1, updates // SLICES)
    _refuse_lengths(settings, updates, interval, len(trials))
    return SweepPlan(tuple(overrides), settings, ray, space, trials, updates, interval)


def check_trials(plan: SweepPlan) -> None:
    """Check every trial as ``train`` would, before anything starts.

    Trials that differ in nothing but the seed are checked once.

    Raises:
        AutomixError: Of the first that cannot run; it says which.
    """
    different: dict[str, SweepTrial] = {}
    for trial in plan.trials:
        different.setdefault(hash_of(replace(trial.settings, seed=0)), trial)
    with progress("checking combinations", len(different)) as tick:
        for trial in different.values():
            try:
                check(checked_here(trial.settings), learns=True)
            except AutomixError as error:
                raise type(error)(f"{trial}: {error.message}", error.hint) from None
            tick()
    for settings in {trial.settings.task.source: trial.settings for trial in plan.trials}.values():
        tell_images(settings)


def hash_of(settings: RunSettings) -> str:
    """Return twelve hex digits that stand for everything a trial's numbers depend on."""
    return _digest(json.dumps(plain(values_that_decide(settings)), sort_keys=True), 12)


def default_path(plan: SweepPlan) -> Path:
    """Return ``sweeps/<name>``; without a name, one that equal overrides make again."""
    folder, search = Path("sweeps"), plan.settings.search
    if plan.settings.name:
        return folder / plan.settings.name
    task = plan.trials[0].settings.task.dataset.replace("/", "-")
    if search == "replay":
        return folder / f"{task}_replay_{plan.trials[0].hash[:8]}"
    own = sorted(one for one in plan.overrides if not one.startswith(("sweep.", "ray.")))
    keys = "-".join(key.rpartition(".")[2] for key in plan.keys)[:60]
    kind = search if plan.settings.searches else ""
    return folder / "_".join(
        part for part in (task, keys, _digest("\n".join(own), 8), kind) if part
    )


def at_once_here(plan: SweepPlan) -> int:
    """Return how many trials a local Ray runs at once.

    Raises:
        ResourceError: If it cannot run a single one.
    """
    one, here = plan.settings, capacity(RaySettings())
    for what, asked, has in (
        ("CPU", one.cpus_per_trial, here.cpus),
        ("GPU", one.gpus_per_trial, here.gpus),
    ):
        if asked > has:
            raise ResourceError(
                f"a trial asks for {asked:g} {what}, this machine has {has:g}",
                f"lower sweep.{what.lower()}s_per_trial, or join a cluster with ray.address=auto",
            )
    most = min(len(plan.trials), fit(here, one.one_trial))
    return min(most, one.max_concurrent or most)


def checked_here(settings: RunSettings) -> RunSettings:
    """Return what this machine can check: the GPUs may all be elsewhere."""
    return replace(settings, device="auto" if settings.device == "cuda" else "cpu")


def described(plan: SweepPlan) -> dict[str, Any]:
    """Return what ``sweep.yaml`` holds: enough to plan the same sweep again."""
    return {
        "job": "train",
        "words": list(plan.overrides),
        "home": str(Path.cwd()),
        "sweep": asdict(plan.settings),
        "ray": asdict(plan.ray),
        "keys": plan.keys,
        "trials": [trial.hash for trial in plan.trials],
    }


def text_of(values: Mapping[str, str]) -> str:
    """Return values as overrides in a row."""
    return " ".join(f"{key}={value}" for key, value in values.items())


def _sections(overrides: Sequence[str]) -> tuple[SweepSettings, RaySettings, list[str]]:
    """Split overrides into those of the sweep, of Ray, and of a run."""
    sweep = read_section(SweepSettings, "sweep", _of("sweep.", overrides))
    ray = read_section(RaySettings, "ray", _of("ray.", overrides))
    rest = [one for one in overrides if not one.startswith(("sweep.", "ray."))]
    for override in rest:
        reason = NOT_OF_A_TRIAL.get(key_of(override))
        if reason:
            raise ConfigError(f"{override!r} is not for a sweep: {reason}")
    return sweep, ray, rest


def _of(section: str, overrides: Sequence[str]) -> list[str]:
    return [one for one in overrides if one.startswith(section)]


def _trial(space: Space, sweep: SweepSettings, values: Mapping[str, str]) -> SweepTrial:
    overrides = space.overrides_with(values)
    try:
        settings = _composed(tuple(overrides), sweep)
    except ConfigError as error:
        where = f"{text_of(values)}: " if values else ""
        raise ConfigError(f"{where}{error.message}", error.hint) from None
    if sweep.population:
        _refuse_shapes(values, settings.agent.name)
    return SweepTrial(hash_of(settings), values, overrides, settings)


@lru_cache(maxsize=256)
def _composed(overrides: tuple[str, ...], sweep: SweepSettings) -> RunSettings:
    """Return the settings of a trial, as it has them inside one task of Ray's."""
    seeds = tuple(one for one in overrides if key_of(one) == SEED)
    settings = _loaded(tuple(one for one in overrides if one not in seeds))
    if seeds:
        settings = replace(settings, seed=_loaded(seeds).seed)
    settings = _in_a_task(settings, sweep)
    # A grid's trial is a run of its own, which expands its settings itself.
    return going_on(expanded(settings)) if sweep.searches else settings


@lru_cache(maxsize=256)
def _loaded(overrides: tuple[str, ...]) -> RunSettings:
    # Composing takes a tenth of a second, and seeds differ in nothing else.
    return load_settings(overrides)


def _in_a_task(settings: RunSettings, sweep: SweepSettings) -> RunSettings:
    device = settings.device
    if sweep.gpus_per_trial and device not in ("auto", "cuda"):
        raise ConfigError(
            f"device={device} with sweep.gpus_per_trial={sweep.gpus_per_trial:g}",
            "leave device out: Ray deals out the GPUs",
        )
    if not sweep.gpus_per_trial and device.startswith("cuda"):
        raise ConfigError(
            f"device={device}, but a trial gets no GPU", "say how many with sweep.gpus_per_trial=1"
        )
    return replace(
        settings,
        # A GPU is fed by one process.
        workers=1 if sweep.gpus_per_trial else sweep.cpus_per_trial,
        device="cuda" if sweep.gpus_per_trial else "cpu",
        threads=1,
        backend="local",
        ray=RaySettings(),
        name="",
    )


def _replay(
    overrides: Sequence[str], sweep: SweepSettings, ray: RaySettings, own: Sequence[str]
) -> SweepPlan:
    """Compose what a schedule and further overrides make: a search of one trial."""
    schedule = read_schedule(Path(sweep.replay))
    _, _, base = _sections(schedule.overrides)
    keys, named = list(schedule.segments[0].values), {key_of(one) for one in own}
    for key in keys:
        if key in named:
            raise ConfigError(f"{key} is what the schedule sets", "leave it out")
    space = Space([*(one for one in base if key_of(one) not in named), *own], ())
    settings = [
        _composed(tuple(space.overrides_with(one.values)), sweep) for one in schedule.segments
    ]
    _refuse_shapes(keys, settings[0].agent.name)
    updates = _updates_in(settings[0])
    if updates != schedule.updates:
        raise ConfigError(
            f"the schedule is for {schedule.updates} updates, and it would be {updates}",
            "leave out what changes the length of learning",
        )
    starts = [one.update for one in schedule.segments]
    name = _digest(json.dumps([starts, [hash_of(one) for one in settings]]), 12)
    trials = [SweepTrial(name, {}, space.fixed, settings[0])]
    return SweepPlan(tuple(overrides), sweep, ray, space, trials, updates, updates, schedule)


def _updates_in(settings: RunSettings) -> int:
    return updates_of(settings.agent, settings.decisions)


def _updates(trials: Sequence[SweepTrial]) -> int:
    """Return the updates of every trial's learning; refuse trials that differ in it."""
    found = {_updates_in(trial.settings): trial for trial in trials}
    if len(found) > 1:
        each = ", ".join(f"{updates} with {trial}" for updates, trial in found.items())
        raise ConfigError(
            f"trials must learn for equally many updates, but it is {each}",
            f"leave {LENGTH} and what an episode is made of out of the search",
        )
    return next(iter(found))


def _refuse_twins(trials: Sequence[SweepTrial]) -> None:
    met: dict[str, SweepTrial] = {}
    for trial in trials:
        twin = met.setdefault(trial.hash, trial)
        if twin is not trial:
            raise ConfigError(
                f"{trial} and {twin} are the same trial", "leave one of the values out"
            )


def _refuse_keys(space: Space, sweep: SweepSettings) -> None:
    if not space.dimensions:
        raise ConfigError(
            "nothing to search: no key has several values",
            "for example agent.learning_rate=1e-4,1e-3 or agent.gamma=interval(0.9,1)",
        )
    for one in space.dimensions:
        if one.key == SEED:
            raise ConfigError(
                "a search has one seed: one that wins has had luck",
                "search with one, then compare the best over seeds with a plain sweep",
            )
        if sweep.search == "pb2" and isinstance(one, Choice):
            raise ConfigError(
                f"pb2 searches intervals, and {one.key} has choices",
                f"for example {one.key}=interval(0.0001,0.001); pbt takes choices",
            )


def _refuse_shapes(keys: Iterable[str], agent: str) -> None:
    """Refuse keys that cannot vary while an agent learns."""
    own = settings_class(agent)
    known = (f"agent.{name}" for name in names_of(own))
    free = sorted(key for key in known if may_change(own, key) and key not in BEFORE_ALL)
    for key in keys:
        if key not in free:
            raise ConfigError(
                f"{key} cannot vary while an agent learns",
                f"what can, with agent={agent}: {', '.join(free)}",
            )


def _refuse_lengths(sweep: SweepSettings, updates: int, interval: int, trials: int) -> None:
    if interval >= updates:
        raise ConfigError(
            f"trials learn for {updates} updates and would be judged every {interval}: never",
            f"lower sweep.interval, or raise {LENGTH}",
        )
    if sweep.grace > updates:
        raise ConfigError(
            f"sweep.grace is {sweep.grace}, but trials learn for {updates} updates", "lower it"
        )
    if trials < 2:
        raise ConfigError("a search of one trial is none", "give more values or sweep.trials=8")


def _digest(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:digits]
