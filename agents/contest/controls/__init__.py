"""Ways to find a schedule without an agent, given as many classifier epochs as the agent had.

To add one, write a file here. A control is called as ``control(evaluator, epochs)`` and returns a
``SearchResult``: it asks the evaluator for training runs, spends at most the classifier epochs that
it is given, and judges by validation accuracy alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from automix.agents.contest.controls.evaluator import SearchEvaluator
from automix.core.errors import ConfigError
from automix.core.registry import Info, Registry
from automix.mixing.actions import MixAction


@dataclass(frozen=True)
class SearchResult:
    """What a search came to."""

    schedule: Sequence[MixAction]
    """Open loop: entry ``int(progress * len(schedule))`` is used. One entry is a fixed choice."""
    classifier_epochs: int
    """Spent on searching."""
    passes: int
    """Samples sent forward and backward through classifiers for it."""


Control = Callable[[SearchEvaluator, int], SearchResult]
"""(evaluator, classifier epochs that it may spend) -> schedule."""


@dataclass(frozen=True, kw_only=True)
class ControlInfo(Info):
    """What a control states about itself."""

    least: Callable[[int], int]
    """How many training runs it needs to say anything, of so many choices."""


CONTROLS: Registry[Control, ControlInfo] = Registry("control", ControlInfo, __name__)


def trainings_within(name: str, evaluator: SearchEvaluator, epochs: int) -> int:
    """Return how many whole training runs a control may spend.

    Raises:
        ConfigError: If they are too few for it; the smallest useful number is named.
    """
    needed = CONTROLS.info(name).least(len(evaluator.actions)) * evaluator.budget
    if epochs < needed:
        raise ConfigError(
            f"the control {name!r} may spend {epochs} classifier epochs, wanted {needed} or more",
            f"with {len(evaluator.actions)} choices and {evaluator.budget} epochs a training, "
            f"{needed} is one round of it",
        )
    return epochs // evaluator.budget


def result_of(evaluator: SearchEvaluator, schedule: Sequence[MixAction]) -> SearchResult:
    """Return a schedule with what finding it has cost."""
    return SearchResult(tuple(schedule), evaluator.epochs, evaluator.passes)
