"""Whoever decides, at work: a callable that mixes the batches of any training loop.

It may be called where the net is trained or, in a ``collate_fn``, by the workers of a DataLoader.
Its draws belong to seed, progress, rank and worker: none is made twice, and a training that is
resumed goes on with those that it would have made. Progress lies in shared memory, so that workers
which run already hear of it.
"""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, distributed
from torch.utils.data import get_worker_info

from automix.core.errors import ConfigError
from automix.core.seeding import generator
from automix.core.settings import Range
from automix.mixing.actions import OFF, MixAction
from automix.mixing.batch import Mixed, MixSettings, check_action, check_mask, mix_batch
from automix.mixing.checks import check_classes
from automix.mixing.modes import uncompiled
from automix.mixing.options import looks_inside
from automix.saliency import SALIENCY, Classifier, check_alone

if TYPE_CHECKING:
    from automix.policy.schedule import MixSchedule

log = logging.getLogger("automix")

PROGRESS, TOLD, BATCHES, PASSES = range(4)
"""What lies where in shared memory: the progress; whether anybody told it; the batches mixed; then,
worker by worker, how often one began at this progress; then what decides the action, if it is not
the progress."""

WORKERS = 256
"""Of one loader; more of them would share numbers of passes, not draws."""

CHOICE = PASSES + WORKERS
"""Where what decides the action begins."""

ENOUGH = 100
"""Batches without a word about progress: epochs of a small set, of a large one what shows early."""


class BatchMixer(ABC):
    """Mixes the batches of a training loop; what it plays, a subclass says.

    Args:
        actions: All that may be played.
        num_classes: Classes of the labels.
        seed: Of all draws.
        settings: How actions are carried out.
        choice: Numbers in shared memory that tell the action, beside the progress.

    Raises:
        ConfigError: If one of the actions cannot be carried out so, at whatever epoch it comes.
    """

    decides = ""
    """Who does, for messages."""

    def __init__(
        self,
        actions: Sequence[MixAction],
        num_classes: int,
        seed: int,
        settings: MixSettings,
        choice: int = 0,
    ) -> None:
        check_classes(num_classes)
        Range(least=0, whole=True).check("seed", seed)
        self._num_classes, self._settings = num_classes, settings
        for action in actions:
            check_action(action, settings)
            self._check_mask(action)
            if action.saliency != OFF:
                check_alone(action.saliency)
        self._inside = next((a for a in actions if _looks_inside(a, settings)), None)
        self._seed, self._rank = seed, 0
        self._share(torch.zeros(CHOICE + choice, dtype=torch.float64))
        self._owner = os.getpid()
        self._place: tuple[float, int, int] | None = None

    @property
    @abstractmethod
    def action(self) -> MixAction:
        """What is played now."""

    def _tell(self, progress: float) -> None:
        """Let everybody know the progress."""
        if self._owner != os.getpid():  # each rank tells its own workers
            self._share(torch.from_numpy(self._board.copy()))
            self._owner = os.getpid()
        if progress != self._board[PROGRESS]:
            self._board[PASSES:CHOICE] = 0
        self._board[PROGRESS], self._board[TOLD] = progress, 1

    @abstractmethod
    def _check_ready(self) -> None:
        """See to it that the action is one that somebody has decided on."""

    @uncompiled
    def __call__(
        self, images: Tensor, labels: Tensor, classifier: Classifier | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mix a batch.

        Args:
            images: (b, c, h, w) float or uint8; not modified.
            labels: (b,) or (b, 1) int classes, or (b, k) probabilities.
            classifier: images -> logits, where a saliency is played that needs it.

        Returns:
            Mixed images, and targets (b, k) for a soft-target cross-entropy. Where the label rule
            lets the classifier have a say, ask ``mixed`` instead: here it has none.

        Raises:
            ConfigError: As ``mix_batch``; or if a label rule that may be played looks inside the
                net.
        """
        if self._inside is not None:
            raise ConfigError(
                f"{self.decides} plays {self._inside}, whose label rule looks inside the net, "
                "which this call cannot show it",
                "ask mixed = mixer.mixed(images, labels); where mixed.revised is not None, logits, "
                "targets = mixed.revised.asked(model, mixed.images, slice(None))",
            )
        mixed = self.mixed(images, labels, classifier)
        return mixed.images, mixed.targets

    @uncompiled
    def mixed(self, images: Tensor, labels: Tensor, classifier: Classifier | None = None) -> Mixed:
        """Mix a batch, as a call does; return all there is to know of it.

        The classifier has its say in the targets by ``revised``, if that is not None::

            if mixed.revised is None:
                logits, targets = model(mixed.images), mixed.targets
            else:
                logits, targets = mixed.revised.asked(model, mixed.images, slice(None))
        """
        self._check_ready()
        return mix_batch(
            images,
            labels,
            self.action,
            num_classes=self._num_classes,
            rng=self._draws(),
            classifier=classifier,
            settings=self._settings,
        )

    def _draws(self) -> np.random.Generator:
        """Return the draws of this progress, rank and worker; those that have begun go on."""
        worker, progress = get_worker_info(), self._board[PROGRESS]
        place = progress, self._own_rank(), worker.id + 1 if worker else 0
        if place != self._place:
            passes = 0
            if worker:  # begun anew for each epoch, unless it persists
                slot = PASSES + worker.id % WORKERS
                passes, self._board[slot] = int(self._board[slot]), self._board[slot] + 1
            bits = int(progress.view(np.uint64))
            self._rng = generator(self._seed, "schedule mixer", bits, *place[1:], passes)
            self._place = place
        return self._rng

    def _own_rank(self) -> int:
        if distributed.is_available() and distributed.is_initialized():
            return distributed.get_rank()
        return self._rank  # of the process that started this worker

    def _share(self, values: Tensor) -> None:
        self._shared = values.share_memory_()
        self._board: np.ndarray = self._shared.numpy()

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_board": None, "_rank": self._own_rank()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._share(state["_shared"])  # what a worker is sent is shared already, a copy is not

    def _check_mask(self, action: MixAction) -> None:
        """Refuse what no mixer of batches can do, before the epoch comes that would."""
        try:
            check_mask(action)
        except ConfigError as error:
            raise ConfigError(
                f"{self.decides} plays {action}, and {error.message}",
                "ask automix.mixing.loss.loss_of(net, images, labels, schedule.at(progress), ..., "
                "settings=schedule.settings) for the loss: it plays every action",
            ) from None


class ScheduleMixer(BatchMixer):
    """Mixes as a schedule says.

    Args:
        schedule: What to play when.
        num_classes: Classes of the labels.
        seed: Of all draws.
        settings: How actions are carried out.

    Raises:
        ConfigError: If one of the actions cannot be carried out so, at whatever epoch it comes.
    """

    decides = "the schedule"

    def __init__(
        self, schedule: MixSchedule, num_classes: int, seed: int, settings: MixSettings
    ) -> None:
        super().__init__(schedule.actions, num_classes, seed, settings)
        self._schedule = schedule
        self._tell_of_classifier()

    @property
    def action(self) -> MixAction:
        """What is played now."""
        return self._schedule.at(self._board[PROGRESS])

    def set_progress(self, progress: float) -> None:
        """Tell the share of the budget that is spent; call it at the start of each epoch.

        With workers, before the loop over their loader: they fetch ahead. A schedule stays on its
        last action from 1 on, for trainers that cool down.
        """
        self._schedule.at(progress)  # which refuses what is no progress
        progress = float(progress)
        if progress >= 2 > self._board[PROGRESS]:
            log.warning(
                "the progress of the schedule is %g: it is over and stays on %s. Progress is "
                "epoch / epochs, not the epoch.",
                *(progress, self._schedule.actions[-1]),
            )
        self._tell(progress)

    def _check_ready(self) -> None:
        if not self._board[TOLD]:
            self._remind()

    def _remind(self) -> None:
        """Say once that nobody tells the progress, if it matters."""
        self._board[BATCHES] += 1
        if self._board[BATCHES] == ENOUGH and len(set(self._schedule.actions)) > 1:
            log.warning(
                "%d batches mixed, and set_progress was never called: the schedule stays on its "
                "first action, %s. Call set_progress(epoch / epochs) at the start of each epoch.",
                *(ENOUGH, self._schedule.actions[0]),
            )

    def _tell_of_classifier(self) -> None:
        """Say at once what only a later epoch would ask for."""
        asks = [_asks_classifier(action) for action in self._schedule.actions]
        if any(asks) and not asks[0]:
            first = asks.index(True)
            log.warning(
                "the schedule plays %s from %d of %d epochs on, which needs a classifier: pass "
                "classifier=... to the mixer then.",
                *(self._schedule.actions[first], first, len(asks)),
            )


def _asks_classifier(action: MixAction) -> bool:
    return action.saliency != OFF and SALIENCY.info(action.saliency).needs_classifier


def _looks_inside(action: MixAction, settings: MixSettings) -> bool:
    return action.mixes and looks_inside(action.label_rule or settings.label_rule, settings.options)
