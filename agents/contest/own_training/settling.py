"""Let contestants settle what they settle on each task, as pieces of work that are shared out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from automix.agents.contest.contestants import Contestant
from automix.agents.contest.own_training import SETTLING, Settled
from automix.agents.parallel.worker import State, Worker
from automix.agents.runs.progress import progress
from automix.agents.runs.result_cache import ResultCache, TaskCheckpoint
from automix.data.tasks import TaskSpec
from automix.envs.worlds import ImageWorld, WorldSettings
from automix.mixing.actions import MixAction

Given = tuple[WorldSettings, TaskSpec, int]
"""A task with its world, and the seed of what is trained to settle something on it."""


def settle(
    contestants: Sequence[Contestant],
    tasks: Sequence[Given],
    actions: Sequence[MixAction],
    workers: Sequence[Worker],
    device: str,
    cache: ResultCache,
) -> list[list[Contestant]]:
    """Return the contestants as they are on each task, with what was settled there.

    What several of them would settle alike is settled once.
    """
    who = {one.name: SETTLING.info(one.name) for one in contestants if one.kind == "settles"}
    names = list(dict.fromkeys(info.shares or name for name, info in who.items()))
    items = [(name, device, tuple(actions), *task) for task in tasks for name in names]
    if not items:
        return [list(contestants) for _ in tasks]
    with progress("settling", len(items)) as tick:
        done = map(_read, cache.map("settling", workers, settle_one, items, tick))
    settled = [{name: next(done) for name in names} for _ in tasks]
    return [
        [
            replace(one, settled=own[who[one.name].shares or one.name]) if one.name in who else one
            for one in contestants
        ]
        for own in settled
    ]


def settle_one(
    state: State,
    name: str,
    device: str,
    actions: Sequence[MixAction],
    settings: WorldSettings,
    spec: TaskSpec,
    seed: int,
    checkpoint: TaskCheckpoint = TaskCheckpoint(),  # noqa: B008 (frozen)
) -> dict[str, Any]:
    """Let one contestant settle something on one task; importable by name."""
    world = ImageWorld(settings.task, settings.trainer, device, settings.name)
    return asdict(SETTLING[name](world, spec, seed, actions))


def _read(settled: dict[str, Any]) -> Settled:
    recipe = tuple((name, value) for name, value in settled["recipe"])
    return Settled(**settled | {"action": MixAction(**settled["action"]), "recipe": recipe})
