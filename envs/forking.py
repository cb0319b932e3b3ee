"""Forks: in mid-episode, a group goes on from the state of one of its members.

From there on all that the members differ by is what they play later, so that their returns compare
the actions taken from one state. Until there each has had a path of its own; the episodes of all
but the donor end at the fork, truncated, and new ones begin.
"""

from __future__ import annotations

from dataclasses import dataclass

from automix.core.seeding import generator


@dataclass(frozen=True)
class Fork:
    """Where one group forks in one episode."""

    epoch: int
    """After how many epochs."""
    donor: int
    """The member that all go on from."""


def draw_fork(seed: int, budget: int, epochs_per_action: int, members: int) -> Fork | None:
    """Draw an action before which a group forks, and the donor; None if it plays one action only.

    Args:
        seed: Of the group's trainings.
        budget: Epochs of one training.
        epochs_per_action: How long an action is played.
        members: Episodes of the group.
    """
    places = range(epochs_per_action, budget, epochs_per_action)
    if not places:
        return None
    rng = generator(seed, "fork")
    return Fork(int(rng.choice(places)), int(rng.integers(members)))
