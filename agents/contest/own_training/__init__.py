"""Contestants that do not choose by the epoch, one file each.

Most contestants answer an observation with a mix action, and ``EpisodeGroup`` trains for all of
them at once. One that decides at another pace (RL-Mix: at every batch) trains its classifier itself
and hands over what any training leaves: the classifier, its history and what was played.

Others settle something on a task before it is trained in earnest: an action, or the recipe. They
look at what is known of the task, or train it several times over, judged by validation accuracy;
those training runs are theirs to pay for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from automix.core.registry import Info, Registry
from automix.data.tasks import TaskSpec
from automix.envs.worlds import ImageWorld
from automix.mixing.actions import MixAction
from automix.training.metrics import EpochMetrics
from automix.training.population import Population


@dataclass(frozen=True)
class Trained:
    """One finished training."""

    population: Population
    """Of one member, as ``test_scores`` wants it."""
    history: Sequence[EpochMetrics]
    """From epoch 0 on; passes include what deciding cost."""
    mixes: Sequence[str]
    """What was played at each epoch, in words."""


TrainOne = Callable[[ImageWorld, TaskSpec, int], Trained]
"""(world, task, seed) -> training; equal arguments give equal training runs."""

OWN_TRAINING: Registry[TrainOne, Info] = Registry(
    "contestant that trains by itself", Info, __name__
)


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What is settled on one task."""

    action: MixAction
    """Played throughout, unless the policy is asked."""
    recipe: tuple[tuple[str, float], ...] = ()
    """What the task is trained with in earnest: settings of the trainer that are others."""
    epochs: int = 0
    """Classifier epochs that settling took."""
    passes: int = 0
    """Samples sent forward and backward for it."""


Settle = Callable[[ImageWorld, TaskSpec, int, Sequence[MixAction]], Settled]
"""(world, task, seed, the agent's choices) -> what is settled; equal arguments settle the same."""


@dataclass(frozen=True, kw_only=True)
class SettlingInfo(Info):
    """What a contestant that settles something states about itself."""

    trainings: Callable[[int], int] = lambda choices: 0
    """How often it trains a task for that, with so many choices, about."""
    asks_policy: bool = False
    """Whether it then plays as ``agent`` does."""
    shares: str = ""
    """The contestant that settles the same, which is then done once for both."""


SETTLING: Registry[Settle, SettlingInfo] = Registry(
    "contestant that settles on the task", SettlingInfo, __name__
)


def asks_policy(name: str) -> bool:
    """Return whether a contestant plays by a learned policy."""
    return name == "agent" or (name in SETTLING and SETTLING.info(name).asks_policy)
