"""Ways to find a schedule without an agent, given as many classifier epochs as the agent had.

To add one, write a file here. A control is called as ``control(evaluator, epochs)`` and returns a
``SearchResult``: it asks the evaluator for training runs, spends at most the classifier epochs that
it is given, and judges by validation accuracy alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from automix.agents.contest.controls.evaluator import SearchEvaluator
from automix.agents.contest.controls.lessons import Lessons
from automix.core.errors import ConfigError
from automix.core.extras import require
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
    lessons: Lessons | None = None
    """In place of a schedule: what a selector chooses by, task by task."""


Control = Callable[[SearchEvaluator, int], SearchResult]
"""(evaluator, classifier epochs that it may spend) -> schedule."""


@dataclass(frozen=True, kw_only=True)
class ControlInfo(Info):
    """What a control states about itself."""

    least: Callable[[int], int]
    """How many training runs it needs to say anything, of so many choices."""
    packages: tuple[str, ...] = ()
    """What it needs beside the extra ``learn``, as ``core.extras.require`` takes it."""
    one_budget: bool = False
    """Whether all of its training runs must be equally long."""


CONTROLS: Registry[Control, ControlInfo] = Registry("control", ControlInfo, __name__)


def check_control(name: str, evaluator: SearchEvaluator) -> None:
    """Refuse a control that cannot search here, before anything is spent.

    Raises:
        MissingExtraError: If it needs a package that is not installed.
        ConfigError: If it needs equally long training runs and these are not.
    """
    info = CONTROLS.info(name)
    require(*info.packages, hint=f"or leave {name} out of compare.contestants")
    if info.one_budget and len(set(evaluator.budgets)) > 1:
        raise ConfigError(
            f"the control {name!r} wants training runs of equal length, those of the suite take "
            f"{min(evaluator.budgets)} to {max(evaluator.budgets)} epochs",
            "leave it out of compare.contestants, or search on one world",
        )


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
