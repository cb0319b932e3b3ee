"""The batches of an epoch: drawn, augmented, guided, mixed, for all members of a stack at once."""

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
from automix.training.maps.computer import CleanSlopes, SaliencyComputer
from automix.training.metrics import EpochLog
from automix.training.settings import TrainerSettings

PIECE = 2**20
"""Bytes of images that are mixed in one call, at least one batch: enough for small images to hide
the cost of a call, and little enough for the cache. Fixed, because draws are made piece by piece.
"""


Revision = tuple[Sequence[int], Revised, slice]
"""Members, what makes their targets of one's logits, and which of its images are in the batch."""


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
    wants_slopes: bool
    """Whether some maps are read off this step."""
    revisions: Sequence[Revision] = ()
    """What makes targets anew once the classifiers have seen the images."""
    clean_slopes: CleanSlopes = field(default_factory=list)
    """Weights, and slopes there of a loss over clean images, to be added to the step's."""
    own_steps: Mapping[int, OwnStep] = field(default_factory=dict)
    """Members that make a step of their own, for whom images and targets above mean nothing."""


class BatchLoader:
    """Makes the batches of a stack's epochs.

    Args:
        seats: The members, those who share batches side by side.
        network: Their nets, for saliency.
        settings: Batch size, mixing, augmentation, saliency.
        device: Where.
        average: The moving average of their nets, if it is kept.
    """

    def __init__(
        self,
        seats: Sequence[Member],
        network: Stack,
        settings: TrainerSettings,
        device: torch.device,
        average: Stack | None = None,
    ) -> None:
        self._seats, self._settings, self._device = seats, settings, device
        self.lanes = shared_batches_of(seats)
        first, size = seats[0].data, settings.batch_size
        self._shape, self._classes, self._trained = (
            first.task.images.shape,
            first.classes,
            first.trained,
        )
        self._guide = SaliencyComputer(seats, network, settings, self._shape, device, average)
        self._piece = max(1, PIECE // (4 * int(np.prod(self._shape))) // size) * size
        self._buffers: tuple[Tensor, Tensor] | None = None

    def batches(
        self, actions: Sequence[MixAction], epoch: int, updates: int, log: EpochLog
    ) -> Iterator[Batch]:
        """Yield the batches of an epoch; each is valid until the next is asked for.

        What need not wait for a step is mixed for many batches in one call. How many depends on
        the images alone, because the draws depend on it: not on what other members play.
        """
        plays, guide = self._plays(actions, epoch), self._guide
        asking = [play for play in plays if needs_classifier(play.action)]
        remembered = [play for play in asking if guide.remembers(play)]
        stepwise = [play for play in asking if not guide.remembers(play)]
        own = [play for play in plays if makes_steps(play.action)]
        ahead = [play for play in plays if play not in stepwise and play not in own]
        reads = any(guide.reads_steps(play) for play in asking)
        guide.begin(asking)
        for lane in self.lanes:
            lane.start(epoch, self._settings, self._device)
        for start in range(0, self._trained, self._piece):
            count = min(self._piece, self._trained - start)
            images, targets = self._memory(count)
            for lane in self.lanes:
                lane.take(slice(start, start + count))
            parts = _parts(count, self._settings.batch_size)
            guide.refresh(remembered, parts, updates, log)
            for play in ahead:
                self._mix(play, slice(0, count), self._maps(play), images, targets, log)
            size = self._settings.batch_size
            batches = zip(parts, images.split(size), targets.split(size), strict=True)
            for here, mixed, wanted in batches:
                revisions = _revisions(ahead, here)
                maps = guide.ask(stepwise, here, log) if stepwise else {}
                mixes = [play for play in stepwise if play not in own]
                for play in mixes:
                    self._mix(play, here, maps[play.slots[0]], images, targets, log)
                revisions += _revisions(mixes, slice(None))
                steps = {play.slots[0]: self._own_step(play, here, maps) for play in own}
                yield Batch(mixed, wanted, reads, revisions, guide.clean_slopes(), steps)
                updates += 1
            guide.read(remembered)

    def keep(self, gradients: Tensor) -> None:
        """Take the slopes (b, k, c, h, w) of the loss at a batch's images, where it wants them."""
        self._guide.keep(gradients)

    def _plays(self, actions: Sequence[MixAction], epoch: int) -> list[Assignment]:
        """Sort the members by what can be mixed in one call.

        Every play draws from its own copy of the epoch's generator: members of a lane with equal
        actions see equal batches, and nobody's draws depend on what the others do.
        """
        plays = []
        for lane in self.lanes:
            players: dict[tuple[MixAction, int], list[int]] = {}
            for slot in lane.slots:
                # Saliency of the classifier, and what it made of the targets, differ from member
                # to member, so each mixes alone.
                action, remembers = actions[slot], self._seats[slot].memory is not None
                own = needs_classifier(action) or makes_steps(action) or remembers
                alone = slot if own else -1
                players.setdefault((actions[slot], alone), []).append(slot)
            plays += [
                Assignment(action, lane, slots, generator(lane.seed, "mix", epoch))
                for (action, _), slots in players.items()
            ]
        return plays

    def _memory(self, count: int) -> tuple[Tensor, Tensor]:
        """Return images (count, k, c, h, w) and targets (count, k, classes) to write into."""
        if self._buffers is None:
            most, k = min(self._piece, self._trained), len(self._seats)
            self._buffers = (
                torch.empty((most, k, *self._shape), device=self._device),
                torch.empty((most, k, self._classes), device=self._device),
            )
        return self._buffers[0][:count], self._buffers[1][:count]

    def _maps(self, play: Assignment) -> Tensor | None:
        """Return the maps of the images that were taken last, where they need no step."""
        if play.action.saliency == OFF:
            return None
        if needs_classifier(play.action):
            return self._guide.recall(play)
        return play.lane.still_maps(play.action.saliency)

    def _mix(
        self,
        play: Assignment,
        here: slice,
        saliency: Tensor | None,
        images: Tensor,
        targets: Tensor,
        log: EpochLog,
    ) -> None:
        """Mix once and write the result into ``images`` and ``targets`` of all who play it."""
        first, *others = play.slots
        play.mixed = mix_batch(
            play.lane.images[here],
            play.lane.targets_for(self._seats[first], here),
            play.action,
            num_classes=self._classes,
            rng=play.rng,
            saliency=saliency,
            settings=self._settings.mix,
            batch_size=self._settings.batch_size,
            out=images[here, first],
        )
        targets[here, first] = play.mixed.targets
        for slot in others:
            images[here, slot], targets[here, slot] = play.mixed.images, play.mixed.targets
        log.mixed(play.slots, play.mixed.own_share)

    def _own_step(self, play: Assignment, here: slice, maps: Mapping[int, Tensor]) -> OwnStep:
        """Draw what a method's own step begins with."""
        (slot,), settings, images = play.slots, self._settings.mix, play.lane.images[here]
        saliency = maps.get(slot)
        if saliency is None:
            known = self._maps(play)
            saliency = None if known is None else known[here]
        targets = play.lane.targets_for(self._seats[slot], here)
        step = drawn_step(images, targets, play.action, play.rng, settings, saliency)
        return OwnStep(play.action, step)


def _revisions(plays: Sequence[Assignment], rows: slice) -> list[Revision]:
    """Return what revises the targets of some of the images that plays mixed last."""
    return [
        (play.slots, play.mixed.revised, rows)
        for play in plays
        if play.mixed is not None and play.mixed.revised is not None
    ]


def _parts(count: int, size: int) -> list[slice]:
    """Cut so many images into batches."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
