"""Contestants that bring a training of their own, one file each: they do not choose by the epoch.

Most contestants answer an observation with a mix action, and ``EpisodeGroup`` trains for all of
them at once. One that decides at another pace (RL-Mix: at every batch) trains its classifier itself
and hands over what any training leaves: the classifier, its history and what was played.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from automix.core.registry import Info, Registry
from automix.data.tasks import TaskSpec
from automix.envs.worlds import ImageWorld
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
