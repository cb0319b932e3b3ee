"""The batches of an epoch: drawn, augmented and mixed for all members of a stack at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from automix.core.seeding import generator
from automix.masks.method_steps import Step
from automix.mixing.actions import OFF, MixAction
from automix.mixing.batch import mix_batch
from automix.mixing.loss import drawn_step, makes_steps
from automix.mixing.targets import Revised
from automix.nets.stacking import Stack
from automix.training.batches.members import Assignment, Member, needs_classifier, shared_batches_of
from automix.training.maps.computer import CleanGradients, SaliencyComputer
from automix.training.metrics import EpochLog
from automix.training.settings import TrainerSettings

PIECE = 2**20
"""Bytes of images that are mixed in one call, at least one batch: enough for small images to hide
the cost of a call, and little enough for the cache. Fixed, because draws are made piece by piece.
"""


Revision = tuple[Sequence[int], Revised, slice]
"""Slots, what makes their targets of their logits, and which of its images are in the batch."""


@dataclass(frozen=True, slots=True)
class OwnStep:
    """A step that a method makes in its own way (``automix.masks.method_steps``)."""

    action: MixAction
    step: Step


@dataclass
class Batch:
    """One step's input."""

    images: Tensor
    """(b, k, c, h, w)."""
    targets: Tensor
    """(b, k, classes)."""
    wants_gradients: bool
    """Whether some maps are read off this step."""
    revisions: Sequence[Revision] = ()
    """What makes targets anew once the classifiers have seen the images."""
    clean_gradients: CleanGradients = field(default_factory=list)
    """Weights, and gradients there of a loss over clean images, to be added to the step's."""
    own_steps: Mapping[int, OwnStep] = field(default_factory=dict)
    """Slots that make a step of their own, for which images and targets above mean nothing."""


class BatchLoader:
    """Makes the batches of a stack's epochs.

    Args:
        members: The members; those that share batches stand side by side.
        network: Their nets, for saliency.
        settings: Batch size, mixing, augmentation, saliency.
        device: Where.
        average: The moving average of their nets, if it is kept.
    """

    def __init__(
        self,
        members: Sequence[Member],
        network: Stack,
        settings: TrainerSettings,
        device: torch.device,
        average: Stack | None = None,
    ) -> None:
        self._members, self._settings, self._device = members, settings, device
        self.shared_batches = shared_batches_of(members)
        first, size = members[0].data, settings.batch_size
        self._shape, self._classes = first.task.images.shape, first.classes
        self._trained = first.trained
        self._computer = SaliencyComputer(members, network, settings, self._shape, device, average)
        self._piece = max(1, PIECE // (4 * int(np.prod(self._shape))) // size) * size
        self._buffers: tuple[Tensor, Tensor] | None = None

    def batches(
        self, actions: Sequence[MixAction], epoch: int, updates: int, log: EpochLog
    ) -> Iterator[Batch]:
        """Yield the batches of an epoch; each is valid until the next is asked for.

        What need not wait for a step is mixed for many batches in one call. How many depends on
        the images alone, because the draws depend on it: not on the actions of other members.
        """
        assignments, computer = self._assign(actions, epoch), self._computer
        asking = [one for one in assignments if needs_classifier(one.action)]
        remembered = [one for one in asking if computer.remembers(one)]
        stepwise = [one for one in asking if not computer.remembers(one)]
        own = [one for one in assignments if makes_steps(one.action)]
        ahead = [one for one in assignments if one not in stepwise and one not in own]
        reads = any(map(computer.reads_steps, asking))
        computer.begin(asking)
        for shared in self.shared_batches:
            shared.start(epoch, self._settings, self._device)
        for start in range(0, self._trained, self._piece):
            count = min(self._piece, self._trained - start)
            images, targets = self._memory(count)
            for shared in self.shared_batches:
                shared.take(slice(start, start + count))
            parts = _parts(count, self._settings.batch_size)
            computer.refresh(remembered, parts, updates, log)
            for assignment in ahead:
                self._mix(assignment, slice(0, count), self._maps(assignment), images, targets, log)
            size = self._settings.batch_size
            batches = zip(parts, images.split(size), targets.split(size), strict=True)
            for here, mixed, wanted in batches:
                revisions = _revisions(ahead, here)
                maps = computer.ask(stepwise, here, log) if stepwise else {}
                mixes = [one for one in stepwise if one not in own]
                for assignment in mixes:
                    self._mix(assignment, here, maps[assignment.slots[0]], images, targets, log)
                revisions += _revisions(mixes, slice(None))
                steps = {one.slots[0]: self._own_step(one, here, maps) for one in own}
                yield Batch(mixed, wanted, reads, revisions, computer.clean_gradients(), steps)
                updates += 1
            computer.read(remembered)

    def record_gradients(self, gradients: Tensor) -> None:
        """Take the gradients (b, k, c, h, w) of the loss at the images of a batch."""
        self._computer.record_gradients(gradients)

    def _assign(self, actions: Sequence[MixAction], epoch: int) -> list[Assignment]:
        """Sort the members by what can be mixed in one call.

        Every assignment draws from its own copy of the epoch's generator: members that share
        batches and have equal actions see equal mixes, and no draws depend on what others do.
        """
        assignments = []
        for shared in self.shared_batches:
            players: dict[tuple[MixAction, int], list[int]] = {}
            for slot in shared.slots:
                # Saliency of the classifier, and what it made of the targets, differ from member
                # to member, so each mixes alone.
                action, remembers = actions[slot], self._members[slot].memory is not None
                own = needs_classifier(action) or makes_steps(action) or remembers
                alone = slot if own else -1
                players.setdefault((actions[slot], alone), []).append(slot)
            assignments += [
                Assignment(action, shared, slots, generator(shared.seed, "mix", epoch))
                for (action, _), slots in players.items()
            ]
        return assignments

    def _memory(self, count: int) -> tuple[Tensor, Tensor]:
        """Return images (count, k, c, h, w) and targets (count, k, classes) to write into."""
        if self._buffers is None:
            most, k = min(self._piece, self._trained), len(self._members)
            self._buffers = (
                torch.empty((most, k, *self._shape), device=self._device),
                torch.empty((most, k, self._classes), device=self._device),
            )
        return self._buffers[0][:count], self._buffers[1][:count]

    def _maps(self, assignment: Assignment) -> Tensor | None:
        """Return the maps of the images that were taken last, where they need no step."""
        if assignment.action.saliency == OFF:
            return None
        if needs_classifier(assignment.action):
            return self._computer.remembered(assignment)
        return assignment.batches.still_maps(assignment.action.saliency)

    def _mix(
        self,
        assignment: Assignment,
        here: slice,
        saliency: Tensor | None,
        images: Tensor,
        targets: Tensor,
        log: EpochLog,
    ) -> None:
        """Mix once and write the result into ``images`` and ``targets`` of all its members."""
        first, *others = assignment.slots
        assignment.mixed = mix_batch(
            assignment.batches.images[here],
            assignment.batches.targets_for(self._members[first], here),
            assignment.action,
            num_classes=self._classes,
            rng=assignment.rng,
            saliency=saliency,
            settings=self._settings.mix,
            batch_size=self._settings.batch_size,
            out=images[here, first],
        )
        targets[here, first] = assignment.mixed.targets
        for slot in others:
            images[here, slot], targets[here, slot] = (
                assignment.mixed.images,
                assignment.mixed.targets,
            )
        log.mixed(assignment.slots, assignment.mixed.own_share)

    def _own_step(self, assignment: Assignment, here: slice, maps: Mapping[int, Tensor]) -> OwnStep:
        """Draw what a method's own step begins with."""
        (slot,), action, batches = assignment.slots, assignment.action, assignment.batches
        saliency = maps.get(slot)
        if saliency is None:
            known = self._maps(assignment)
            saliency = None if known is None else known[here]
        targets = batches.targets_for(self._members[slot], here)
        settings = self._settings.mix
        step = drawn_step(batches.images[here], targets, action, assignment.rng, settings, saliency)
        return OwnStep(action, step)


def _revisions(assignments: Sequence[Assignment], rows: slice) -> list[Revision]:
    """Return what revises the targets of some of the images that were mixed last."""
    return [
        (one.slots, one.mixed.revised, rows)
        for one in assignments
        if one.mixed is not None and one.mixed.revised is not None
    ]


def _parts(count: int, size: int) -> list[slice]:
    """Cut so many images into batches."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
