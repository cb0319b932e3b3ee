"""The members of a stack, which of them share their batches, and what each trains on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

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

    def bank(self, provider: str) -> SaliencyBank:
        """Return the maps that a provider gave last; none are known at first."""
        if provider not in self.banks:
            _, height, width = self.data.task.images.shape
            size, device = (height, width), self.data.targets.device
            self.banks[provider] = SaliencyBank(len(self.data.train), size, device)
        return self.banks[provider]

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of everything that the next epoch depends on, but for the net."""
        return {
            "seed": self.seed,
            "diverged": self.diverged,
            "saliency": {name: bank.state_dict() for name, bank in self.banks.items()},
            "memory": self.memory.state_dict() if self.memory else {},
            "methods": {name: state.state_dict() for name, state in self.states.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a copy of a state; what methods keep needs the net and is left out."""
        self.diverged, self.banks, self.states, self.memory = state["diverged"], {}, {}, None
        for name, bank in state["saliency"].items():
            self.bank(name).load_state_dict(bank)
        if state["memory"]:
            self.memory = TargetMemory(self.data.targets)
            self.memory.load_state_dict(state["memory"])


class SharedBatches:
    """The batches of members that share task and seed.

    Args:
        data: The task.
        seed: Of the training run.
        slots: The members' places in the stack, side by side.
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

    def targets_for(self, member: Member, here: slice | np.ndarray = EVERYTHING) -> Tensor:
        """Return the targets (b, classes) of images that were taken last, as a member sees them."""
        if member.memory is None:
            return self.targets[here]
        return member.memory.targets(self.index[here])

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
    """An action, and the members whose batches come from one call of the mix."""

    action: MixAction
    batches: SharedBatches
    slots: list[int]
    rng: np.random.Generator
    mixed: Mixed | None = None
    """The last batch."""


def needs_classifier(action: MixAction) -> bool:
    """Return whether an action's maps come from the classifier that is being trained."""
    return action.saliency != OFF and SALIENCY.info(action.saliency).needs_classifier


def shared_batches_of(members: Sequence[Member]) -> list[SharedBatches]:
    """Find neighbours that share task and seed."""
    groups = groupby(enumerate(members), lambda one: (id(one[1].data), one[1].seed))
    found = [list(group) for _, group in groups]
    return [
        SharedBatches(group[0][1].data, group[0][1].seed, [slot for slot, _ in group])
        for group in found
    ]
