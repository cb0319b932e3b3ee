"""Who sits in a stack, who of them share their batches, and what they play in an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from automix.core.seeding import generator
from automix.masks.method_steps import MethodState
from automix.mixing.actions import OFF, MixAction
from automix.mixing.batch import Mixed
from automix.saliency import SALIENCY, normalised
from automix.training.batches.augment import Views, augmented, augmented_maps, draw_views
from automix.training.batches.task_tensors import TaskTensors
from automix.training.maps.saliency_bank import SaliencyBank
from automix.training.optimising.target_memory import TargetMemory
from automix.training.settings import TrainerSettings

EVERYTHING = slice(None)


@dataclass
class Member:
    """One member of a stack."""

    data: TaskTensors
    seed: int
    diverged: bool = False
    banks: dict[str, SaliencyBank] = field(default_factory=dict)
    """By provider: the maps that this member's classifier gave last."""
    states: dict[str, MethodState] = field(default_factory=dict)
    """By method: what those that keep a state of their own have learned."""
    memory: TargetMemory | None = None
    """Targets of its own, if it has come to see some otherwise than its task does."""


class SharedBatches:
    """Members that share task and seed, and with them every batch.

    Args:
        data: The task.
        seed: Of the training.
        slots: Their places in the stack, side by side.
    """

    def __init__(self, data: TaskTensors, seed: int, slots: list[int]) -> None:
        self.data, self.seed, self.slots = data, seed, slots

    def start(self, epoch: int, settings: TrainerSettings, device: torch.device) -> None:
        """Draw the order of an epoch."""
        n = len(self.data.train)
        self._order = generator(self.seed, "order", epoch).permutation(n)[: self.data.trained]
        if settings.augment.active:
            self._view_rng = generator(self.seed, "augment", epoch)
        self._augment, self._device = settings.augment, device

    def take(self, piece: slice) -> None:
        """Read the next images of the order and augment them."""
        self.rows = self._order[piece]
        """(b,) positions in the training split, on the host."""
        self.index = torch.from_numpy(self.rows).to(self._device, non_blocking=True)
        self.images = self.data.train[self.index]
        self.targets = self.data.targets[self.index]
        self.views: Views | None = None
        if self._augment.active:
            self.views = draw_views(len(self.rows), self._augment, self._view_rng)
            self.images = augmented(self.images, self.views)

    def targets_for(self, seat: Member, here: slice | np.ndarray = EVERYTHING) -> Tensor:
        """Return the targets (b, classes) of images that were taken last, as a member sees them."""
        if seat.memory is None:
            return self.targets[here]
        return seat.memory.recall(self.index[here])

    def still_maps(self, provider: str) -> Tensor:
        """Return the maps of the images taken, by a provider that needs no classifier."""
        if self.views is None:
            return self.data.still_maps(provider, self.index, self.images)
        plain = self.images if self.data.train.resident is not None else self.data.train[self.index]
        return normalised(
            augmented_maps(self.data.still_maps(provider, self.index, plain), self.views)
        )


@dataclass
class Assignment:
    """Members whose batches come from one call of the mix."""

    action: MixAction
    lane: SharedBatches
    slots: list[int]
    rng: np.random.Generator
    mixed: Mixed | None = None
    """The last batch."""


def needs_classifier(action: MixAction) -> bool:
    """Return whether an action's maps come from the classifier that is being trained."""
    return action.saliency != OFF and SALIENCY.info(action.saliency).needs_classifier


def shared_batches_of(seats: Sequence[Member]) -> list[SharedBatches]:
    """Put neighbours that share task and seed into lanes."""
    lanes: list[SharedBatches] = []
    for slot, seat in enumerate(seats):
        if lanes and lanes[-1].data is seat.data and lanes[-1].seed == seat.seed:
            lanes[-1].slots.append(slot)
        else:
            lanes.append(SharedBatches(seat.data, seat.seed, [slot]))
    return lanes
