"""From the words of a search to its trials: composed and checked before anything starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from automix.agents.config.agent import names_of, settings_class
from automix.agents.config.compose import load_settings, read_section
from automix.agents.config.settings import RaySettings, RunSettings
from automix.agents.jobs.check import expanded
from automix.agents.learning.algorithms import updates_of
from automix.agents.learning.training import may_change
from automix.agents.sweep.plan import (
    NOT_OF_A_TRIAL,
    SEED,
    SweepPlan,
    SweepTrial,
    default_path,
    hash_of,
    in_a_task,
)
from automix.agents.sweep.search_settings import SearchSettings
from automix.agents.sweep.space import Choice, Space, space_of
from automix.core.errors import ConfigError

POPULATIONS = ("pbt", "pb2")
"""Searches whose trials learn side by side, and copy each other."""

LENGTH = "agent.total_timesteps"

BEFORE_ALL = (LENGTH, "agent.learning_starts")
"""What is settled when learning begins, and says nothing later."""


@dataclass(frozen=True)
class SearchPlan(SweepPlan):
    """A search before it starts.

    Attributes:
        settings: Of the search.
        space: What its words leave open.
        updates: Of a trial's whole learning.
        interval: Updates between two judgements.
    """

    settings: SearchSettings
    space: Space
    updates: int
    interval: int

    @property
    def population(self) -> bool:
        """Whether trials learn side by side, and copy each other."""
        return self.settings.search in POPULATIONS

    def settings_with(self, values: Mapping[str, str]) -> RunSettings:
        """Return the settings of a trial with these values."""
        return settings_of_trial(words_with(self.space.fixed, values), self.settings)


def search_name(words: Sequence[str]) -> str:
    """Return what ``sweep.search`` is in a sweep's words."""
    return next((w.partition("=")[2] for w in words if w.startswith("sweep.search=")), "grid")


def search_plan_of(words: Sequence[str]) -> SearchPlan:
    """Draw the trials of a search, and compose them.

    Raises:
        ConfigError: If a word cannot be used, or a trial; it says which.
    """
    sweep, ray, rest = sections(words)
    space = space_of(rest)
    seed = load_settings([word for word in space.fixed if word.startswith(f"{SEED}=")]).seed
    _refuse_keys(space, sweep)
    trials = [_trial(space, sweep, point) for point in space.draw(sweep.trials, seed)]
    updates = _updates(trials)
    interval = sweep.slice_of(updates)
    _refuse_lengths(sweep, updates, interval, len(trials))
    keys = [one.key for one in space.dimensions]
    return SearchPlan(tuple(words), sweep, ray, keys, trials, space, updates, interval)


def sections(words: Sequence[str]) -> tuple[SearchSettings, RaySettings, list[str]]:
    """Split words into those of the search, of Ray, and of a run.

    Raises:
        ConfigError: If a word is not for a sweep.
    """
    sweep = read_section(SearchSettings, "sweep", [w for w in words if w.startswith("sweep.")])
    ray = read_section(RaySettings, "ray", [w for w in words if w.startswith("ray.")])
    rest = [w for w in words if not w.startswith(("sweep.", "ray."))]
    for word in rest:
        refused = NOT_OF_A_TRIAL.get(word.partition("=")[0])
        if refused:
            raise ConfigError(f"{word!r} is not for a sweep: {refused}")
    return sweep, ray, rest


def words_with(fixed: Sequence[str], values: Mapping[str, str]) -> list[str]:
    """Return the words of a run: fixed ones, and values in the place of what they say."""
    rest = [word for word in fixed if word.partition("=")[0] not in values]
    return [*rest, *(f"{key}={value}" for key, value in values.items())]


def settings_of_trial(words: Sequence[str], sweep: SearchSettings) -> RunSettings:
    """Return the settings of a trial, as it has them inside one task of Ray's."""
    return _composed(tuple(words), sweep)


@lru_cache(maxsize=256)
def _composed(words: tuple[str, ...], sweep: SearchSettings) -> RunSettings:
    # Composing takes a tenth of a second, and every slice asks.
    return expanded(in_a_task(load_settings(words), sweep))


def search_path(plan: SearchPlan) -> Path:
    """Return ``sweeps/<name>``; without a name, one that equal words make again."""
    path = default_path(plan)
    return path if plan.settings.name else path.with_name(f"{path.name}_{plan.settings.search}")


def updates_in(settings: RunSettings) -> int:
    """Return the updates of a whole learning."""
    return updates_of(settings.agent, settings.env.steps(settings.trainer.epochs))


def refuse_shapes(keys: Sequence[str], agent: str) -> None:
    """Refuse keys that cannot vary while an agent learns.

    Raises:
        ConfigError: With those that can.
    """
    own = settings_class(agent)
    known = (f"agent.{name}" for name in names_of(own))
    free = sorted(key for key in known if may_change(own, key) and key not in BEFORE_ALL)
    for key in keys:
        if key not in free:
            raise ConfigError(
                f"{key} cannot vary while an agent learns",
                f"what can, with agent={agent}: {', '.join(free)}",
            )


def _trial(space: Space, sweep: SearchSettings, values: Mapping[str, str]) -> SweepTrial:
    words = words_with(space.fixed, values)
    try:
        settings = settings_of_trial(words, sweep)
    except ConfigError as error:
        told = " ".join(f"{key}={value}" for key, value in values.items())
        raise ConfigError(f"{told}: {error.message}", error.hint) from None
    if sweep.search in POPULATIONS:
        refuse_shapes(list(values), settings.agent.name)
    return SweepTrial(hash_of(settings), values, words, settings)


def _refuse_keys(space: Space, sweep: SearchSettings) -> None:
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


def _updates(trials: Sequence[SweepTrial]) -> int:
    found = {updates_in(trial.settings): trial for trial in trials}
    if len(found) > 1:
        told = ", ".join(f"{updates} with {trial}" for updates, trial in found.items())
        raise ConfigError(
            f"trials must learn for equally many updates, but it is {told}",
            f"leave {LENGTH} and what an episode is made of out of the search",
        )
    return next(iter(found))


def _refuse_lengths(sweep: SearchSettings, updates: int, interval: int, trials: int) -> None:
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
