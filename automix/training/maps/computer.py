"""Saliency maps of the classifiers that are being trained: asked for, read off, remembered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from automix.core.registry import Entry
from automix.mixing.loss import makes_steps
from automix.nets.attention import Query, looked_at, spoken_for
from automix.nets.feature_maps import FeatureNet, features, scored
from automix.nets.stacking import Stack, frozen_running_statistics, logits_of, same_draws_afterwards
from automix.saliency import SALIENCY, Provider, SaliencyInfo, Staged, enlarged, normalised
from automix.training.batches.augment import augmented_maps, canonical_maps
from automix.training.batches.members import Assignment, Member
from automix.training.maps.teacher import teacher_of
from automix.training.metrics import EpochLog
from automix.training.optimising.precision import autocast
from automix.training.requirements import check_provider
from automix.training.settings import TrainerSettings

Rows = slice | np.ndarray
"""Which of the images that were taken last."""

AT_ONCE = 128
"""Images that the classifiers look at in one pass, or one batch if that is more. The maps hang on
it, because batch norm takes its statistics from the images of a pass."""

CleanGradients = list[tuple[Tensor, Tensor]]
"""Weights, and the gradients there of a loss over clean images."""


@dataclass(frozen=True)
class StackedClassifier:
    """Some nets of a stack as one classifier, whose images are theirs in turn (b * k, ...)."""

    stack: Stack
    slots: Sequence[int]

    def __call__(self, images: Tensor) -> Tensor:
        """Return logits, (b * k, classes)."""
        return self.stack.ask(self.slots, logits_of, self._apart(images))[0].flatten(0, 1)

    def features(self, images: Tensor) -> Tensor:
        """Return the last feature maps, (b * k, c', h', w')."""
        return self.stack.ask(self.slots, features, self._apart(images))[0].flatten(0, 1)

    def scored(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the last feature maps and the gradients there of the scores."""
        given = self._apart(images), self._apart(targets)
        found, gradients = self.stack.ask(self.slots, scored, *given)
        return found.flatten(0, 1), gradients.flatten(0, 1)

    def attended(self, images: Tensor, query: Query) -> Tensor:
        """Return where the last blocks look, (b * k, h', w')."""
        question = partial(looked_at, query=query)
        return self.stack.ask(self.slots, question, self._apart(images))[0].flatten(0, 1)

    def spoken_for(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return where attention speaks for the targets, (b * k, h', w')."""
        given = self._apart(images), self._apart(targets)
        return self.stack.ask(self.slots, spoken_for, *given)[0].flatten(0, 1)

    def _apart(self, rows: Tensor) -> Tensor:
        return rows.unflatten(0, (-1, len(self.slots)))


class SaliencyComputer:
    """Gives the maps for assignments whose saliency needs the classifier.

    Args:
        members: The members; their banks are kept here.
        network: Their nets.
        settings: How often and how closely they are asked, and in which precision.
        shape: (c, h, w) of the images.
        device: Where.
        average: The moving average of their nets, if it is kept.
    """

    def __init__(
        self,
        members: Sequence[Member],
        network: Stack,
        settings: TrainerSettings,
        shape: tuple[int, int, int],
        device: torch.device,
        average: Stack | None = None,
    ) -> None:
        self._members, self._stack = members, network
        self._trainer, self._settings = settings, settings.saliency
        self._shape, self._size, self._device = shape, shape[1:], device
        self._average = average
        self._gradients: list[Tensor] = []
        self._clean: CleanGradients = []

    def begin(self, assignments: Sequence[Assignment]) -> None:
        """Begin an epoch; what is left of one that was broken off is forgotten.

        Raises:
            ConfigError: If the settings do not give what an assignment's saliency needs.
        """
        self._gradients.clear()
        self._clean.clear()
        for assignment in assignments:
            entry = SALIENCY.entry(assignment.action.saliency)
            check_provider(entry, self._trainer, self._shape, self._device)

    def _asked(self, entry: Entry[Provider, SaliencyInfo], slots: Sequence[int]) -> Staged:
        """Return the nets that a provider asks on behalf of some members."""
        asks = entry.info.asks
        if asks == "teacher":
            return FeatureNet(teacher_of(self._trainer.teacher, self._shape, self._device))
        if asks == "average":
            assert self._average is not None  # checked when the epoch began
            return StackedClassifier(self._average, slots)
        return StackedClassifier(self._stack, slots)

    def remembers(self, assignment: Assignment) -> bool:
        """Return whether an assignment's maps outlive their batch; else it is asked at every step.

        Images whose maps are remembered can be mixed ahead of the steps, many batches at once.
        """
        return self._settings.refresh > 1 or self.reads_steps(assignment)

    def ask(
        self, assignments: Sequence[Assignment], here: Rows, log: EpochLog
    ) -> dict[int, Tensor]:
        """Compute maps (b, h, w) of some images with the present classifiers, by member."""
        by_provider: dict[str, list[Assignment]] = {}
        for assignment in assignments:
            by_provider.setdefault(assignment.action.saliency, []).append(assignment)
        maps: dict[int, Tensor] = {}
        for name, askers in by_provider.items():
            maps |= self._computed(name, askers, here, log)
        return maps

    def _computed(
        self, name: str, assignments: Sequence[Assignment], here: Rows, log: EpochLog
    ) -> dict[int, Tensor]:
        """Call a provider once for several members."""
        entry, scale = SALIENCY.entry(name), self._settings.scale
        slots, batches = [one.slots[0] for one in assignments], [one.batches for one in assignments]
        images = torch.stack([_shrunk(one.images[here], scale) for one in batches], 1)
        pairs = zip(batches, slots, strict=True)
        targets = torch.stack([b.targets_for(self._members[slot], here) for b, slot in pairs], 1)

        # A look at the images must leave no trace: not in the statistics, not in the dropout.
        with (
            autocast(self._trainer.precision, self._device),
            frozen_running_statistics(self._stack.module()),
            same_draws_afterwards(self._device, enabled=self._stack.draws),
        ):
            if entry.info.from_clean_step is not None:
                found = self._learnt(entry, slots, images, targets)
            else:
                asked = self._asked(entry, slots)
                found = entry.value(images.flatten(0, 1), targets.flatten(0, 1), asked)
        log.count(slots, len(images), entry.info.passes)
        if found.shape[1:] != self._size:
            found = normalised(enlarged(found, self._size))
        found = found.unflatten(0, images.shape[:2])
        return {slot: found[:, i] for i, slot in enumerate(slots)}

    # Clean steps ---------------------------------------------------------------------------------

    def _learnt(
        self,
        entry: Entry[Provider, SaliencyInfo],
        slots: Sequence[int],
        images: Tensor,
        targets: Tensor,
    ) -> Tensor:
        """Read maps off a training pass over clean images; keep its gradients at the weights."""
        images = images.detach().requires_grad_()
        found = self._stack.ask(slots, logits_of, images, trains=True)[0].float()
        losses = F.cross_entropy(found.flatten(0, 1), targets.flatten(0, 1), reduction="sum")
        weights = [weight for weight in self._stack.module().parameters() if weight.requires_grad]
        # The sum over members of each one's mean, as in the step.
        gradients, *kept = torch.autograd.grad(
            losses / len(images), [images, *weights], allow_unused=True
        )
        pairs = zip(weights, kept, strict=True)
        self._clean += [(weight, gradient) for weight, gradient in pairs if gradient is not None]
        assert entry.info.from_clean_step is not None
        return entry.info.from_clean_step(gradients.flatten(0, 1))

    def clean_gradients(self) -> CleanGradients:
        """Return what clean passes since the last call add to the step."""
        kept, self._clean = self._clean, []
        return kept

    # Remembering ---------------------------------------------------------------------------------

    def refresh(
        self,
        assignments: Sequence[Assignment],
        batches: Sequence[slice],
        updates: int,
        log: EpochLog,
    ) -> None:
        """Ask ahead of some batches for the maps that are due or not known at all.

        Several batches go through the classifier in one pass, which costs small nets little more
        than one batch would.

        Args:
            assignments: Those that are guided by remembered maps.
            batches: Where the batches lie in the images that were taken last.
            updates: Steps made before the first of them.
            log: Counts the passes.
        """
        due: dict[tuple[int, ...], list[Assignment]] = {}
        for assignment in assignments:
            chosen = tuple(
                i for i, b in enumerate(batches) if self._due(assignment, b, updates + i)
            )
            due.setdefault(chosen, []).append(assignment)
        for chosen, askers in due.items():
            rows = [np.arange(batches[i].start, batches[i].stop) for i in chosen]
            for here in _joined(rows):
                maps = self.ask(askers, here, log)
                for assignment in askers:
                    own = maps[assignment.slots[0]]
                    self._store(assignment, here, own, torch.ones_like(own))

    def _due(self, assignment: Assignment, here: slice, step: int) -> bool:
        bank = self._members[assignment.slots[0]].banks.get(assignment.action.saliency)
        if bank is None or not bank.knows(assignment.batches.rows[here]):
            return True
        return step % self._settings.refresh == 0 and not self.reads_steps(assignment)

    def remembered(self, assignment: Assignment) -> Tensor:
        """Return the remembered maps (n, h, w) of the images that were taken last."""
        shared, member = assignment.batches, self._members[assignment.slots[0]]
        maps = member.banks[assignment.action.saliency].maps(shared.index)
        # What is kept is patched from several looks, so that it need not sum to 1.
        return normalised(maps if shared.views is None else augmented_maps(maps, shared.views))

    def _store(self, assignment: Assignment, here: Rows, maps: Tensor, shown: Tensor) -> None:
        """Keep maps (b, h, w) where the images were shown, as they lie on the untouched images."""
        shared, member = assignment.batches, self._members[assignment.slots[0]]
        if shared.views is not None:
            maps, seen = canonical_maps(maps, shared.views[here])
            shown = canonical_maps(shown, shared.views[here])[0] * seen
        bank = member.bank(assignment.action.saliency)
        bank.store(shared.index[here], shared.rows[here], maps, shown)

    # Reading off the step ------------------------------------------------------------------------

    def reads_steps(self, assignment: Assignment) -> bool:
        """Return whether an assignment's maps are read off the training steps."""
        readable = SALIENCY.info(assignment.action.saliency).from_step is not None
        own = makes_steps(assignment.action)  # its gradients are not those of one mixed image
        return self._settings.source == "step" and readable and not own

    def record_gradients(self, gradients: Tensor) -> None:
        """Keep the gradients (b, k, c, h, w) of the loss at the mixed images of the next batch."""
        self._gradients.append(gradients)

    def read(self, assignments: Sequence[Assignment]) -> None:
        """Move the maps of the images that were taken last towards the gradients that were kept.

        A pixel speaks for the image that it shows: the map of an image moves by the share that the
        image has of the pixel.
        """
        if not self._gradients:
            return
        gradients, everywhere = torch.cat(self._gradients), slice(None)
        self._gradients.clear()
        for assignment in filter(self.reads_steps, assignments):
            assert assignment.mixed is not None  # what was trained on was mixed
            read_off = SALIENCY.info(assignment.action.saliency).from_step
            assert read_off is not None  # by reads_steps
            maps = read_off(gradients[:, assignment.slots[0]])
            shown = (1 - assignment.mixed.mask[:, 0]).expand_as(maps)
            self._store(assignment, everywhere, maps, shown)


def _shrunk(images: Tensor, factor: int) -> Tensor:
    return images if factor == 1 else F.avg_pool2d(images, factor, ceil_mode=True)


def _joined(batches: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Join batches of rows, as many as are looked at in one pass."""
    if batches:
        each = max(1, AT_ONCE // len(batches[0]))
        for start in range(0, len(batches), each):
            yield np.concatenate(batches[start : start + each])
