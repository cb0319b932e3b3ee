"""Let the controls among the contestants search, each at the agent's cost in classifier epochs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from automix.agents.config.settings import RunSettings
from automix.agents.config.worlds import learned_worlds
from automix.agents.contest.controls import (
    CONTROLS,
    SearchResult,
    check_control,
    trainings_within,
)
from automix.agents.contest.controls.evaluator import (
    SearchEvaluator,
    Shares,
    WorldMaker,
    world_of,
)
from automix.agents.contest.controls.lessons import Lessons
from automix.agents.parallel.worker import Worker
from automix.agents.runs.progress import progress
from automix.agents.runs.result_cache import ResultCache
from automix.core.errors import ConfigError
from automix.core.seeding import derived_seed
from automix.envs.codec import ActionCodec
from automix.envs.worlds import build_world
from automix.mixing.actions import MixAction

log = logging.getLogger("automix")

TOGETHER = 32
"""Training runs that a process on a CPU holds at once: larger stacks are no faster."""


def searching(settings: RunSettings) -> list[str]:
    """Return the contestants that search."""
    return [name for name in settings.compare.contestants if name in CONTROLS]


def check_controls(settings: RunSettings, device: str) -> None:
    """Refuse controls that cannot search on their worlds, before a run writes anything.

    Raises:
        AutomixError: If a package is missing, or the worlds cannot be had, cannot play the actions
            or differ too much.
    """
    names = searching(settings)
    if not names:
        return
    actions = ActionCodec(settings.env.actions).choices
    evaluator = SearchEvaluator(_worlds(settings, device), actions, 0, [])
    world_of(evaluator.worlds).check(actions)
    for name in names:
        check_control(name, evaluator)


def _worlds(settings: RunSettings, device: str) -> WorldMaker:
    return WorldMaker(build_world, (tuple(learned_worlds(settings)), device))


def search_epochs(settings: RunSettings, learning: int) -> int:
    """Return the classifier epochs that each control may spend.

    Args:
        settings: Of the run.
        learning: Epochs that the agent's learning took, 0 if there is no agent or it is not known.

    Raises:
        ConfigError: If a control searches and nothing says for how long.
    """
    epochs = settings.compare.search_epochs or learning
    names = searching(settings)
    if names and not epochs:
        raise ConfigError(
            f"{', '.join(names)} may search for as long as the agent learned, and no agent plays "
            "that tells it",
            f"give a number of classifier epochs, such as compare.search_epochs="
            f"{settings.agent.total_timesteps}, or a policy",
        )
    return epochs


def search(
    settings: RunSettings,
    workers: Sequence[Worker],
    device: str,
    learning: int,
    cache: ResultCache | None = None,
) -> dict[str, SearchResult]:
    """Return what each control among the contestants finds, by name.

    Args:
        settings: Of the run; ``env`` as the agent has it.
        workers: Train the classifiers; how many there are does not change what is found.
        device: Where.
        learning: Epochs that the agent's learning took.
        cache: Of the run; finished searches and pieces of work are not done again.

    Raises:
        ConfigError: If the epochs are too few for one of them.
    """
    cache, names = cache or ResultCache(), searching(settings)
    epochs = search_epochs(settings, learning)
    worlds = _worlds(settings, device)
    actions = ActionCodec(settings.env.actions).choices
    shares = Shares(_together(settings, device), device, settings.ray)
    seeds = {name: derived_seed(settings.seed, "control", name) for name in names}
    for name in names:
        # Before the first of them spends minutes.
        trainings_within(name, SearchEvaluator(worlds, actions, seeds[name], workers), epochs)
    results, margin = {}, settings.compare.selector_margin
    for name in names:
        finished = cache.get(f"found/{name}")
        if finished:
            results[name] = _read(finished)
            continue
        with progress(f"searching, {name}", epochs) as tick:
            own = (cache, f"searching/{name}")
            evaluator = SearchEvaluator(
                worlds, actions, seeds[name], workers, shares, settings.env, tick, own, margin
            )
            results[name] = CONTROLS[name](evaluator, epochs)
        cache.add(f"found/{name}", _written(results[name]))
        # What minutes were spent on is on record, whatever comes after.
        log.debug("%s found %s", name, ", ".join(map(str, results[name].schedule)))
    return results


def _written(found: SearchResult) -> dict[str, Any]:
    # Part by part: in an action's text the ratio is rounded.
    lessons = {"lessons": vars(found.lessons)} if found.lessons else {}
    return vars(found) | {"schedule": [vars(action) for action in found.schedule]} | lessons


def _read(found: dict[str, Any]) -> SearchResult:
    schedule = tuple(MixAction(**parts) for parts in found["schedule"])
    lessons = found.get("lessons")
    if lessons:
        tables = {key: tuple(map(tuple, lessons[key])) for key in ("signs", "gains")}
        lessons = Lessons(**lessons | tables)
    return SearchResult(**found | {"schedule": schedule, "lessons": lessons})


def _together(settings: RunSettings, device: str) -> int:
    """Return how many training runs may be held at once: no more than the agent held."""
    agents = settings.agent.groups * settings.agent.group_size
    return agents if device.startswith("cuda") else min(TOGETHER, agents)
