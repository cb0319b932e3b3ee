"""Where tasks and training runs come from: what environments ask of a world, and the real one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch

from automix.data.tasks import FamilySettings, TaskFamily, TaskSpec
from automix.mixing.actions import MixAction
from automix.training.metrics import EpochMetrics
from automix.training.population import Population
from automix.training.requirements import check_playable
from automix.training.settings import TrainerSettings


class Training(Protocol):
    """k training runs side by side: a ``Population``, or the surrogate."""

    def reset(self, seeds: Sequence[int]) -> list[EpochMetrics]:
        """Start afresh, each from its seed; equal seeds and tasks differ in their actions only."""
        ...

    def run_epoch(self, actions: Sequence[MixAction], epochs: int = 1) -> list[EpochMetrics]:
        """Play one action each, for one epoch or some."""
        ...

    def fork(self, donors: Sequence[int]) -> None:
        """Let every member go on from the state of its donor, which may be itself."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of everything that the next epoch depends on."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a copy of a state, whatever was played here.

        Raises:
            ConfigError: If it is of other training runs.
        """
        ...


class World(Protocol):
    """Where tasks and training runs come from."""

    @property
    def budget(self) -> int:
        """Epochs of one training run."""
        ...

    @property
    def num_classes(self) -> int:
        """Classes of every task."""
        ...

    def draw(self, rng: np.random.Generator) -> TaskSpec:
        """Draw a task."""
        ...

    def train_size(self, spec: TaskSpec) -> int:
        """Return the number of training images of a task."""
        ...

    def check(self, actions: Sequence[MixAction]) -> None:
        """Refuse actions that its training runs cannot play, by a ``ConfigError``."""
        ...

    def start(self, specs: Sequence[TaskSpec]) -> Training:
        """Set up a training run of each task; those with equal specs share its data."""
        ...


class ImageWorld:
    """Real training runs on real images.

    Args:
        family: The tasks.
        trainer: How classifiers are trained.
        device: Where.
    """

    def __init__(
        self, family: FamilySettings, trainer: TrainerSettings, device: str = "cpu"
    ) -> None:
        self.family = TaskFamily(family)
        self.trainer, self.device = trainer, device

    @property
    def budget(self) -> int:
        """Epochs of one training run."""
        return self.trainer.epochs

    @property
    def num_classes(self) -> int:
        """Classes of the image set."""
        return self.family.images.num_classes

    def draw(self, rng: np.random.Generator) -> TaskSpec:
        """Draw a task of the family."""
        return self.family.draw(rng)

    def train_size(self, spec: TaskSpec) -> int:
        """Return the number of training images of a task."""
        return self.family.train_size(spec)

    def check(self, actions: Sequence[MixAction]) -> None:
        """Refuse actions that do not fit the trainer's settings."""
        device = torch.device(self.device)
        for action in actions:
            check_playable(action, self.trainer, self.num_classes, self.family.images.shape, device)

    def start(self, specs: Sequence[TaskSpec]) -> Population:
        """Set up a training run of each task."""
        tasks = {spec: self.family.task(spec) for spec in dict.fromkeys(specs)}
        return Population([tasks[spec] for spec in specs], self.trainer, self.device)
