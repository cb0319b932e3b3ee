"""Selectors: one fixed choice for each task, from what is known of it, without an agent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from automix.agents.contest.controls import (
    CONTROLS,
    ControlInfo,
    SearchResult,
    trainings_within,
)
from automix.agents.contest.controls.evaluator import SearchEvaluator, Start, WorldMaker, world_of
from automix.agents.contest.controls.lessons import Lessons, choices_of, probe_end, signs_of
from automix.agents.parallel.worker import State
from automix.agents.runs.result_cache import TaskCheckpoint
from automix.envs.groups import StackedGroups
from automix.envs.rewards import REWARDS, RewardSettings
from automix.envs.settings import EnvSettings
from automix.mixing.actions import PLAIN, MixAction

TASKS = 8
"""The fewest that say anything."""

Lesson = tuple[list[float], list[float]]
"""The signs of one task, and what each choice earned on it."""


@CONTROLS.register("selector", ControlInfo(least=lambda choices: TASKS * choices))
def selector(evaluator: SearchEvaluator, epochs: int) -> SearchResult:
    """Choose one action for a task by its size, classes, net and budget, and play it throughout.

    Every action is played on as many drawn tasks as the epochs allow. Extra trees (Geurts, Ernst
    and Wehenkel 2006) learn from them what each gains over no mixing.
    """
    return _fitted("selector", evaluator, epochs)


@CONTROLS.register("selector_probe", ControlInfo(least=lambda choices: TASKS * choices))
def selector_probe(evaluator: SearchEvaluator, epochs: int) -> SearchResult:
    """Train a fifth of the budget without mixing, then choose one action for the rest.

    As ``selector``, but it also sees what the agent observes at that moment, and is fitted to
    training runs that began without mixing too.
    """
    return _fitted("selector_probe", evaluator, epochs)


def _fitted(name: str, evaluator: SearchEvaluator, epochs: int) -> SearchResult:
    """Play tasks with every choice while the epochs last."""
    trainings_within(name, evaluator, epochs)
    choices, probes = choices_of(evaluator.actions), name == "selector_probe"
    starts = _affordable(evaluator, epochs // len(choices))
    env = replace(evaluator.env, reward=RewardSettings(name=evaluator.env.reward.name), fork=False)
    given = (env, tuple(choices), probes)
    lessons: dict[int, Lesson] = {}
    for block, played in evaluator.share(play_lessons, starts, lambda _: given, len(choices)):
        lessons |= zip(block, played, strict=True)
    signs, earned = zip(*(lessons[i] for i in range(len(starts))), strict=True)
    scores = np.array(earned)
    learned = Lessons(
        signs=tuple(map(tuple, signs)),
        gains=tuple(map(tuple, (scores - scores[:, :1]).tolist())),
        probes=probes,
        margin=evaluator.margin,
        seed=evaluator.seed,
    )
    return SearchResult((), evaluator.epochs, evaluator.passes, learned)


def _affordable(evaluator: SearchEvaluator, epochs: int) -> list[Start]:
    """Draw tasks until the next would take more than is left, or than there ever was."""
    starts: list[Start] = []
    while True:
        (start,) = evaluator.draw(1)
        cost = evaluator.epochs_of(start.spec)
        if cost <= epochs:
            starts.append(start)
            epochs -= cost
        elif starts:
            return starts


def play_lessons(
    state: State,
    worlds: WorldMaker,
    starts: Sequence[Start],
    env: EnvSettings,
    choices: Sequence[MixAction],
    probes: bool,
    checkpoint: TaskCheckpoint = TaskCheckpoint(),  # noqa: B008 (frozen)
) -> tuple[list[Lesson], int]:
    """Train every choice on tasks of one world and size; importable by name.

    Returns:
        The lesson of each task, and samples sent forward and backward.
    """
    k, groups = len(choices), StackedGroups(world_of(worlds), env, len(choices), len(starts))
    shown = groups.reset([start.spec for start in starts], [start.seed for start in starts])
    facts = groups.groups[0].facts
    end = probe_end(env.starts(facts.budget), facts.budget) if probes else 0
    seen, epoch = shown, 0
    while not groups.over:
        actions = [PLAIN] * k if epoch < end else choices
        results = groups.step([*actions] * len(starts))
        shown = np.concatenate([result.observations for result in results])
        epoch = results[0].metrics[0].epoch
        if epoch == end:
            seen = shown
    paid = REWARDS[env.reward.name]
    lessons, passes = [], 0
    for g, group in enumerate(groups.groups):
        signs = signs_of(group.facts) + (seen[g * k].tolist() if probes else [])
        courses = group.histories
        earned = [float(paid(c[0], c[-1], True, facts.num_classes)) for c in courses]
        lessons.append((signs, earned))
        passes += sum(r.forward_passes + r.backward_passes for course in courses for r in course)
    return lessons, passes
