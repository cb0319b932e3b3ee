"""Where tasks and training runs come from: what environments ask of a world, and the real ones.

A world is an image set with ranges of size and label noise, a net, a budget and a recipe. A suite
is several worlds, one of which is drawn for each group of episodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch

from automix.core.errors import AutomixError, ConfigError
from automix.data.tasks import FamilySettings, Task, TaskFamily, TaskSpec
from automix.mixing.actions import MixAction
from automix.nets.create import create_classifier
from automix.policy.observations import TaskFacts
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

    def train_epoch(self, actions: Sequence[MixAction]) -> None:
        """Play one action each for an epoch that the next records cover."""
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
        """Epochs of one training run; 0 where tasks differ in it."""
        ...

    def draw(self, rng: np.random.Generator) -> TaskSpec:
        """Draw a task."""
        ...

    def facts(self, spec: TaskSpec) -> TaskFacts:
        """Return what is known of a task before its training starts."""
        ...

    def check(self, actions: Sequence[MixAction]) -> None:
        """Refuse actions that its training runs cannot play, by a ``ConfigError``."""
        ...

    def start(self, specs: Sequence[TaskSpec]) -> Training:
        """Set up a training run of each task; those with equal specs share its data.

        In a suite all are of one world.
        """
        ...


@dataclass(frozen=True)
class WorldSettings:
    """A world as it is written down, from which each process builds its own."""

    task: FamilySettings
    trainer: TrainerSettings
    name: str = ""
    """In a suite; empty where there is no other."""


class ImageWorld:
    """Real training runs on real images.

    Args:
        family: The tasks.
        trainer: How classifiers are trained.
        device: Where.
        name: In a suite.
    """

    def __init__(
        self,
        family: FamilySettings,
        trainer: TrainerSettings,
        device: str = "cpu",
        name: str = "",
    ) -> None:
        self.family = TaskFamily(family)
        self.trainer, self.device, self.name = trainer, device, name

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
        spec = self.family.draw(rng)
        return replace(spec, world=self.name) if self.name else spec

    def train_size(self, spec: TaskSpec) -> int:
        """Return the number of training images of a task."""
        return self.family.train_size(spec)

    def task(self, spec: TaskSpec) -> Task:
        """Build a task."""
        return self.family.task(spec)

    def facts(self, spec: TaskSpec) -> TaskFacts:
        """Return what is known of a task before its training starts."""
        return TaskFacts(
            budget=self.budget,
            train_size=self.train_size(spec),
            num_classes=self.num_classes,
            pixels=self.family.images.shape[1] * self.family.images.shape[2],
            batch_size=self.trainer.batch_size,
            peak_lr=self.trainer.lr,
            parameters=_parameters(self.trainer.model, self.num_classes, self.family.images.shape),
            augmented=self.trainer.augment.active,
        )

    def check(self, actions: Sequence[MixAction]) -> None:
        """Refuse actions that do not fit the trainer's settings."""
        device = torch.device(self.device)
        for action in actions:
            check_playable(action, self.trainer, self.num_classes, self.family.images.shape, device)

    def start(self, specs: Sequence[TaskSpec]) -> Population:
        """Set up a training run of each task."""
        tasks = {spec: self.family.task(spec) for spec in dict.fromkeys(specs)}
        return Population([tasks[spec] for spec in specs], self.trainer, self.device)


@lru_cache(maxsize=64)
def _parameters(model: str, num_classes: int, shape: tuple[int, int, int]) -> int:
    """Count a net's weights; worlds and recipes that share it ask once."""
    net = create_classifier(model, num_classes=num_classes, shape=shape, seed=0)
    return sum(weight.numel() for weight in net.parameters())


class Suite:
    """Several worlds with one set of actions; each task is of one of them.

    Args:
        worlds: Each with a name of its own.

    Raises:
        ConfigError: If there is none, or two have the same name.
    """

    def __init__(self, worlds: Sequence[ImageWorld]) -> None:
        self.worlds = {world.name: world for world in worlds}
        if not worlds or len(self.worlds) < len(worlds) or "" in self.worlds:
            raise ConfigError(
                f"a suite has worlds named {[world.name for world in worlds]}, wanted one or more, "
                "each with a name of its own"
            )

    @property
    def budget(self) -> int:
        """0, as each world has its own."""
        return 0

    def draw(self, rng: np.random.Generator) -> TaskSpec:
        """Draw a world, each as likely as any other, and a task of it."""
        names = list(self.worlds)
        return self.worlds[names[int(rng.integers(len(names)))]].draw(rng)

    def task(self, spec: TaskSpec) -> Task:
        """Build a task."""
        return self.worlds[spec.world].task(spec)

    def facts(self, spec: TaskSpec) -> TaskFacts:
        """Return what is known of a task before its training starts."""
        return self.worlds[spec.world].facts(spec)

    def start(self, specs: Sequence[TaskSpec]) -> Population:
        """Set up a training run of each task, all of one world."""
        return self.worlds[specs[0].world].start(specs)

    def check(self, actions: Sequence[MixAction]) -> None:
        """Refuse actions that one of the worlds cannot play, naming it."""
        for name, world in self.worlds.items():
            with of_world(name):
                world.check(actions)


def build_world(worlds: Sequence[WorldSettings], device: str = "cpu") -> ImageWorld | Suite:
    """Build a world, or the suite of several; the images are read once a process.

    Raises:
        AutomixError: If images or settings cannot be used; of a suite, the world is named.
    """
    if len(worlds) == 1 and not worlds[0].name:
        return ImageWorld(worlds[0].task, worlds[0].trainer, device)
    return Suite([_named_world(world, device) for world in worlds])


def _named_world(world: WorldSettings, device: str) -> ImageWorld:
    with of_world(world.name):
        return ImageWorld(world.task, world.trainer, device, world.name)


@contextmanager
def of_world(name: str) -> Iterator[None]:
    """Name the world of a suite in errors of the block; without a name they stay as they are."""
    try:
        yield
    except AutomixError as error:
        if not name:
            raise
        raise type(error)(f"world {name!r}: {error.message}", error.hint) from None
