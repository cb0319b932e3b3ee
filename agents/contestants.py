"""Everybody who can play: the agent, hand-designed schedules, fixed choices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from agents.schedules import SCHEDULES, progress_of
from automix.actions import MixAction
from automix.errors import ConfigError, did_you_mean
from automix.policy import MixPolicy
from automix.seeding import generator

Kind = Literal["agent", "fixed", "random", "schedule"]

FIXED = "fixed"


@dataclass(frozen=True)
class Contestant:
    """One who decides, by name; rebuilt in every worker.

    Attributes:
        name: ``agent``, a schedule, or ``fixed:<method>@<ratio>[+<saliency>]``.
        kind: What reports group it by.
    """

    name: str
    kind: Kind

    def player(self, menu: Sequence[MixAction], policy: MixPolicy | None, seed: int) -> Player:
        """Return who plays one trial."""
        return Player(self, menu, policy, seed)


class Player:
    """A contestant in one trial, with its own generator."""

    def __init__(
        self,
        contestant: Contestant,
        menu: Sequence[MixAction],
        policy: MixPolicy | None,
        seed: int,
    ) -> None:
        self._contestant, self._menu, self._policy = contestant, menu, policy
        self._rng = generator(seed, "player", contestant.name)

    def act(self, observation: np.ndarray, due: bool = True) -> MixAction:
        """Choose for one observation (d,), whose first entry is progress.

        A policy that was learned with several epochs to an action is asked when one is due.
        """
        name = self._contestant.name
        if self._contestant.kind == "agent":
            assert self._policy is not None
            if due:
                self._last = self._policy.action(observation)
            return self._last
        if name.startswith(f"{FIXED}:"):
            return MixAction.parse(name.partition(":")[2])
        return SCHEDULES[name](progress_of(observation), menu=self._menu, rng=self._rng)


def contestants_of(names: Sequence[str], menu: Sequence[MixAction]) -> list[Contestant]:
    """Resolve names; ``fixed`` alone stands for every mix of the menu.

    Raises:
        ConfigError: If a name is unknown or comes twice.
    """
    found: list[Contestant] = []
    for name in names:
        if name == FIXED:
            found += [Contestant(f"{FIXED}:{action}", "fixed") for action in menu if action.mixes]
        else:
            found.append(_contestant(name))
    doubles = {c.name for c in found if [d.name for d in found].count(c.name) > 1}
    if doubles:
        raise ConfigError(f"compare.contestants names {', '.join(sorted(doubles))} twice")
    return found


def _contestant(name: str) -> Contestant:
    if name == "agent":
        return Contestant(name, "agent")
    if name.startswith(f"{FIXED}:"):
        action = MixAction.parse(name.partition(":")[2])
        return Contestant(f"{FIXED}:{action}" if action.mixes else "none", "fixed")
    if name not in SCHEDULES:
        known = ["agent", FIXED, *SCHEDULES]
        raise ConfigError(
            f"{name!r} is not a contestant.{did_you_mean(name, known)}",
            f"known: {', '.join(known)}, fixed:<method>@<ratio>[+<saliency>]",
        )
    return Contestant(name, SCHEDULES.entry(name).tags["kind"])  # type: ignore[arg-type]
