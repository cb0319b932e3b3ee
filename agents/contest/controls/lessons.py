"""What a selector is fitted to, and how it chooses: extra trees on what is known of a task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from automix.core.extras import require
from automix.mixing.actions import PLAIN, MixAction
from automix.policy.observations import TaskFacts

PROBE = 0.2
"""Share of the budget that is played without mixing before a probing selector chooses, about: it
ends where the agent decides."""

TREES = 200
LEAST_IN_LEAF = 3
"""Tasks; the trees' only brake on learning noise by heart."""


@dataclass(frozen=True)
class Lessons:
    """Tasks that were played with every choice: what was known of each, and what was earned."""

    signs: Sequence[Sequence[float]]
    """For each task its facts, then what the probe saw of it."""
    gains: Sequence[Sequence[float]]
    """For each task, what each choice earned more than no mixing."""
    probes: bool
    """Whether the choice follows a probe."""
    margin: float
    """It mixes only where it expects to gain more."""
    seed: int
    """Of the trees."""


def choices_of(actions: Sequence[MixAction]) -> list[MixAction]:
    """Return what a selector chooses from: the agent's actions, and no mixing if not among them."""
    return list(dict.fromkeys([PLAIN, *actions]))


def probe_end(starts: Sequence[int], budget: int) -> int:
    """Return the epoch before which a probe ends: the agent's decision nearest to its share.

    Where the agent decides once only, it is the end.
    """
    return min([*starts[1:], budget], key=lambda start: abs(start - PROBE * budget))


def signs_of(facts: TaskFacts) -> list[float]:
    """Return what is known of a task before its training starts, as numbers."""
    counts = (
        *(facts.budget, facts.steps, facts.train_size, facts.train_size / facts.num_classes),
        *(facts.num_classes, facts.pixels, facts.parameters, facts.batch_size),
    )
    return [*map(math.log10, counts), facts.peak_lr, float(facts.augmented)]


def choose(lessons: Lessons, actions: Sequence[MixAction], signs: Sequence[float]) -> MixAction:
    """Return the choice with the largest expected gain, or no mixing where that is too small."""
    (gains,) = _trees(lessons).predict(np.array([signs]))
    best = int(np.argmax(gains))
    return choices_of(actions)[best] if gains[best] > lessons.margin else PLAIN


@lru_cache(maxsize=4)
def _trees(lessons: Lessons) -> Any:
    """Fit in the process that asks: the same lessons give the same trees."""
    require("sklearn")
    from sklearn.ensemble import ExtraTreesRegressor

    trees = ExtraTreesRegressor(TREES, min_samples_leaf=LEAST_IN_LEAF, random_state=lessons.seed)
    return trees.fit(np.array(lessons.signs), np.array(lessons.gains))
