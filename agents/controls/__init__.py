"""Ways to find a schedule without an agent, given as many classifier epochs as the agent had.

To add one, write a file here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agents.lab import Lab
from automix.actions import MixAction
from automix.registry import Registry


@dataclass(frozen=True)
class Found:
    """What a search came to."""

    schedule: Sequence[MixAction]
    """Open loop: entry ``int(progress * len(schedule))`` is played. One entry is a fixed choice."""
    classifier_epochs: int
    """Spent on searching."""
    passes: int
    """Samples sent forward and backward through classifiers for it."""


Control = Callable[[Lab, int], Found]
"""(lab, classifier epochs it may spend) -> schedule."""

CONTROLS: Registry[Control] = Registry("control")
