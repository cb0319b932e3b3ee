"""All contestants: the agent, schedules by hand or from a search, fixed choices, others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from automix.agents.contest.controls import CONTROLS, SearchResult
from automix.agents.contest.controls.lessons import Lessons, choose, probe_end, signs_of
from automix.agents.contest.own_training import OWN_TRAINING, SETTLING, Settled, asks_policy
from automix.agents.contest.schedules import SCHEDULES, progress_of
from automix.core.errors import ConfigError, did_you_mean
from automix.core.seeding import generator
from automix.mixing.actions import PLAIN, MixAction
from automix.policy.observations import TaskFacts
from automix.policy.policy import MixPolicy
from automix.policy.schedule import MixSchedule
from automix.policy.shipped import shipped

Kind = Literal["agent", "fixed", "random", "schedule", "control", "own", "settles"]

FIXED = "fixed"


@dataclass(frozen=True)
class Contestant:
    """Something that decides, by name; rebuilt in every worker.

    Attributes:
        name: ``agent``, a schedule, a control, one with a training of its own, one that settles
            something on each task, or ``fixed:<method>@<ratio>[+<saliency>]``.
        kind: What reports group it by.
        found: The schedule that a control found.
        lessons: What a selector learned, which chooses task by task.
        settled: What was settled on the task that it is about to train.
    """

    name: str
    kind: Kind
    found: tuple[MixAction, ...] = ()
    lessons: Lessons | None = None
    settled: Settled | None = None

    @property
    def fixed(self) -> MixAction | None:
        """The action that it takes whatever it sees, if it is a fixed one."""
        kind, _, action = self.name.partition(":")
        return MixAction.parse(action) if kind == FIXED else None


class Player:
    """A contestant in one training run, with its own generator.

    Args:
        contestant: Who decides.
        actions: The agent's choices.
        policy: Of the contestant ``agent``.
        seed: Of the player's own draws.
        task: What a selector knows of the task.
        starts: The epochs before which the agent decides.
    """

    def __init__(
        self,
        contestant: Contestant,
        actions: Sequence[MixAction],
        policy: MixPolicy | None,
        seed: int,
        task: TaskFacts | None = None,
        starts: Sequence[int] = (),
    ) -> None:
        self._contestant, self._actions = contestant, actions
        self._policy = policy.player() if policy else None
        self._found = MixSchedule(contestant.found) if contestant.found else None
        self._rng = generator(seed, "player", contestant.name)
        lessons = contestant.lessons
        self._selection = Selection(lessons, actions, task, starts) if lessons and task else None

    def act(self, observation: np.ndarray, due: bool = True) -> MixAction:
        """Choose for one observation (d,), whose first entry is progress.

        A policy that was learned with several epochs to an action is asked when one is due.
        """
        name, fixed = self._contestant.name, self._contestant.fixed
        if asks_policy(name):
            assert self._policy is not None
            if due:
                self._last = self._policy.action(observation)
            return self._last
        if fixed:
            return fixed
        if self._contestant.settled:
            return self._contestant.settled.action
        if self._selection:
            return self._selection.act(observation)
        if self._found:
            return self._found.at(progress_of(observation))
        return SCHEDULES[name](progress_of(observation), actions=self._actions, rng=self._rng)


class Selection:
    """A selector in one training run: it chooses once, at the start or after its probe."""

    def __init__(
        self,
        lessons: Lessons,
        actions: Sequence[MixAction],
        task: TaskFacts,
        starts: Sequence[int],
    ) -> None:
        self._lessons, self._actions, self._signs = lessons, actions, signs_of(task)
        end = probe_end(starts, task.budget) if lessons.probes else 0
        self._from = end / task.budget
        self._choice: MixAction | None = None

    def act(self, observation: np.ndarray) -> MixAction:
        """Return the choice, or no mixing while it probes."""
        if progress_of(observation) < round(self._from, 6):
            return PLAIN
        if self._choice is None:
            seen = observation.tolist() if self._lessons.probes else []
            self._choice = choose(self._lessons, self._actions, [*self._signs, *seen])
        return self._choice


def contestants_of(
    names: Sequence[str],
    actions: Sequence[MixAction],
    searched: Mapping[str, SearchResult] | None = None,
) -> list[Contestant]:
    """Resolve names; ``fixed`` alone stands for every mix among the actions.

    Args:
        names: Of contestants.
        actions: What ``fixed`` stands for.
        searched: What the controls among them found; needed to act, not to check names.

    Raises:
        ConfigError: If a name is unknown or comes twice.
    """
    found = searched or {}
    resolved: list[Contestant] = []
    for name in names:
        if name == FIXED:
            resolved += [
                Contestant(f"{FIXED}:{action}", "fixed") for action in actions if action.mixes
            ]
        elif name in CONTROLS:
            one = found.get(name)
            own = (tuple(one.schedule), one.lessons) if one else ()
            resolved.append(Contestant(name, "control", *own))
        else:
            resolved.append(_contestant(name))
    doubles = {c.name for c in resolved if [d.name for d in resolved].count(c.name) > 1}
    if doubles:
        raise ConfigError(f"compare.contestants names {', '.join(sorted(doubles))} twice")
    return resolved


def _contestant(name: str) -> Contestant:
    if name == "agent":
        return Contestant(name, "agent")
    if name.startswith(f"{FIXED}:"):
        action = MixAction.parse(name.partition(":")[2])
        return Contestant(f"{FIXED}:{action}" if action.mixes else "none", "fixed")
    if name in OWN_TRAINING:
        return Contestant(name, "own")
    if name in SETTLING:
        return Contestant(name, "settles")
    if name not in SCHEDULES:
        known = ["agent", FIXED, *SCHEDULES, *CONTROLS, *OWN_TRAINING, *SETTLING]
        raise ConfigError(
            f"{name!r} is not a contestant.{did_you_mean(name, known)}",
            f"known: {', '.join(known)}, fixed:<method>@<ratio>[+<saliency>]; as policies: "
            f"{', '.join(shipped())}",
        )
    return Contestant(name, SCHEDULES.info(name).kind)
