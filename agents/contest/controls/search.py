"""Run controls, each with as many classifier epochs as the agent had."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from automix.agents.config.settings import RunSettings
from automix.agents.contest.controls import CONTROLS, SearchResult, trainings_within
from automix.agents.contest.controls.evaluator import SearchEvaluator, Shares, WorldMaker
from automix.agents.parallel.worker import Worker
from automix.agents.runs.progress import progress
from automix.agents.runs.result_cache import ResultCache
from automix.core.seeding import derived_seed
from automix.envs.codec import ActionCodec
from automix.envs.worlds import ImageWorld
from automix.mixing.actions import MixAction

log = logging.getLogger("automix")

TOGETHER = 32
"""Trainings that a process on a CPU holds at once: larger stacks are no faster."""


def search(
    names: Sequence[str],
    settings: RunSettings,
    workers: Sequence[Worker],
    device: str,
    epochs: int,
    journal: ResultCache | None = None,
) -> dict[str, SearchResult]:
    """Return what each named control finds.

    Args:
        names: Of ``CONTROLS``.
        settings: The task family and the menu that the agent had.
        workers: Who trains; how many there are does not change what is found.
        device: Where.
        epochs: Classifier epochs that each may spend.
        journal: Of the run; what has been found or played is on record there.

    Raises:
        ConfigError: If a name is unknown, or the epochs are too few for one of them.
    """
    journal = journal or ResultCache()
    worlds = WorldMaker(ImageWorld, (settings.task, settings.trainer, device))
    menu = ActionCodec(settings.env.actions).choices
    shares = Shares(_together(settings, device), device, settings.ray)
    seeds = {name: derived_seed(settings.seed, "control", name) for name in names}
    for name in names:
        # Before the first of them spends minutes.
        trainings_within(name, SearchEvaluator(worlds, menu, seeds[name], workers), epochs)
    results = {}
    for name in names:
        known = journal.known(f"found/{name}")
        if known:
            results[name] = _read(known)
            continue
        with progress(f"searching, {name}", epochs) as tick:
            reward = settings.env.reward.name
            own = (journal, f"searching/{name}")
            lab = SearchEvaluator(worlds, menu, seeds[name], workers, shares, reward, tick, own)
            results[name] = CONTROLS[name](lab, epochs)
        journal.note(f"found/{name}", _written(results[name]))
        # What minutes were spent on is on record, whatever comes after.
        log.debug("%s found %s", name, ", ".join(map(str, results[name].schedule)))
    return results


def _written(found: SearchResult) -> dict[str, Any]:
    # Part by part: in an action's text the ratio is rounded.
    return vars(found) | {"schedule": [vars(action) for action in found.schedule]}


def _read(found: dict[str, Any]) -> SearchResult:
    return SearchResult(
        **found | {"schedule": tuple(MixAction(**parts) for parts in found["schedule"])}
    )


def _together(settings: RunSettings, device: str) -> int:
    """Return how many trainings may be held at once: no more than the agent held."""
    agents = settings.agent.groups * settings.agent.group_size
    return agents if device.startswith("cuda") else min(TOGETHER, agents)
