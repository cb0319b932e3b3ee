"""Whoever decides, at work: a callable that mixes the batches of any training loop.

It may be called where the net is trained or, in a ``collate_fn``, by the workers of a DataLoader.
Its draws belong to seed, epoch, rank and worker: none is made twice, and a training that is
resumed, or planned longer, makes those that it would have made. What is told lies in shared memory,
so that workers which run already hear of it.
"""

from __future__ import annotations

import json
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, distributed
from torch.utils.data import default_collate, get_worker_info

from automix.core.errors import ConfigError, DataError
from automix.core.seeding import generator
from automix.core.settings import Range
from automix.labels import LABEL_RULES
from automix.mixes import MIXES
from automix.mixing.actions import OFF, PLAIN, MixAction
from automix.mixing.batch import Mixed, MixSettings, check_action, mix_batch
from automix.mixing.checks import check_classes, checked_labels
from automix.mixing.loss import makes_steps
from automix.mixing.modes import uncompiled
from automix.mixing.options import asks_net
from automix.mixing.targets import as_targets
from automix.saliency import SALIENCY, Classifier, check_alone

if TYPE_CHECKING:
    from automix.policy.schedule import MixSchedule

log = logging.getLogger("automix")

PROGRESS, KEY, TOLD, BATCHES, ENABLED, SMOOTHING, LENGTH = range(7)
"""What lies where in shared memory: the progress, what the draws belong to beside the seed, whether
anybody told them; the batches mixed; whether any are to be; the label smoothing; the length of the
action that somebody has set, 0 where nobody has. Then come that action's letters; worker by worker,
how often one began at this progress; and what decides the action, if it is not the progress."""

LETTERS = 512
"""Of an action, as JSON, which keeps every digit."""

PASSES = LENGTH + 1 + LETTERS

WORKERS = 256
"""Of one loader; more of them would share numbers of passes, not draws."""

CHOICE = PASSES + WORKERS
"""Where what decides the action begins."""

ENOUGH = 100
"""Batches without a word about progress: epochs of a small set, of a large one what shows early."""

NEVER = 2**62
"""No epoch."""

NEEDS = ("classifier", "logits", "attention", "step")

SMOOTHINGS = Range(least=0, below=1)

LOSS = "ask automix.MixedLoss(net, mixer)(images, labels) for the loss: it plays every action"


class BatchMixer(ABC):
    """Mixes the batches of a training loop; what it plays, a subclass says.

    Args:
        actions: All that may be played.
        num_classes: Classes of the labels.
        seed: Of all draws.
        settings: How actions are carried out.
        label_smoothing: Share of each label that goes to all classes alike, in [0, 1).
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
        label_smoothing: float = 0.0,
        choice: int = 0,
    ) -> None:
        check_classes(num_classes)
        Range(least=0, whole=True).check("seed", seed)
        self.num_classes, self.settings = num_classes, settings
        self._wants: dict[str, MixAction] = {}
        for action in actions:
            self._check(action)
            for need in needs_of(action, settings):
                self._wants.setdefault(need, action)
        self.seed, self._rank = seed, 0
        self._share(torch.zeros(CHOICE + choice, dtype=torch.float64, device="cpu"))
        self._owner = os.getpid()
        self.mixup_enabled, self.label_smoothing = True, label_smoothing
        self._place: tuple[float, int, int] | None = None
        self._rng = generator(seed, "schedule mixer")

    def _check(self, action: MixAction) -> None:
        check_action(action, self.settings)
        if action.saliency != OFF:
            check_alone(action.saliency)

    @property
    def needs(self) -> frozenset[str]:
        """What some action will want, now or in a later epoch, beside the batch.

        ``classifier`` to find what is salient. ``logits`` or ``attention`` of the mixed images to
        make their targets, or a ``step`` of the method's own: these only ``MixedLoss`` gives.
        """
        return frozenset(need for need in NEEDS if self._wanting(need))

    def _wanting(self, need: str) -> MixAction | None:
        """Return an action that has a need, None if there is none."""
        if self._board[LENGTH] and need in needs_of(self.action, self.settings):
            return self.action
        return self._wants.get(need)

    @property
    def action(self) -> MixAction:
        """What is played now.

        Setting it, to an action or its name, overrules what decides until another progress is
        told; workers that run already hear of it.
        """
        length = int(self._board[LENGTH])
        if not length:
            return self._decided
        letters = self._board[LENGTH + 1 : LENGTH + 1 + length].astype(np.uint8)
        return MixAction(**json.loads(letters.tobytes()))

    @action.setter
    def action(self, action: MixAction | str) -> None:
        action = action if isinstance(action, MixAction) else MixAction.parse(action)
        self._check(action)
        letters = np.frombuffer(json.dumps(asdict(action)).encode("ascii"), np.uint8)
        self._own_board()
        self._board[LENGTH + 1 : LENGTH + 1 + len(letters)] = letters
        self._board[LENGTH] = len(letters)

    @property
    @abstractmethod
    def _decided(self) -> MixAction:
        """What is played where nobody has set an action."""

    @property
    def mixup_enabled(self) -> bool:
        """Whether batches are mixed at all, under the name that timm has for it; settable.

        Without mixing, targets are still probabilities, and smoothed.
        """
        return bool(self._board[ENABLED])

    @mixup_enabled.setter
    def mixup_enabled(self, enabled: bool) -> None:
        self._own_board()
        self._board[ENABLED] = enabled

    @property
    def label_smoothing(self) -> float:
        """Share of each label that goes to all classes alike, in [0, 1); settable."""
        return float(self._board[SMOOTHING])

    @label_smoothing.setter
    def label_smoothing(self, smoothing: float) -> None:
        SMOOTHINGS.check("label_smoothing", smoothing)
        self._own_board()
        self._board[SMOOTHING] = smoothing

    @abstractmethod
    def set_epoch(self, epoch: int, epochs: float | None = None) -> bool:
        """Tell how many epochs are done, from 0 on, at the start of each.

        With workers, before the loop over their loader: they fetch ahead.

        Args:
            epoch: Whole, 0 or more.
            epochs: Of the training, where the mixer was not told when it was made.

        Returns:
            Whether a policy is to be asked now.
        """

    def _tell(self, progress: float, epoch: int | None = None) -> None:
        """Let everybody know the progress, and the epoch where it is known."""
        key = progress if epoch is None else -1.0 - epoch  # no epoch draws as a progress does
        self._own_board()
        if key != self._board[KEY]:
            self._board[LENGTH] = self._board[PASSES:CHOICE] = 0
        self._board[[PROGRESS, KEY, TOLD]] = progress, key, 1

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
            Mixed images, and targets (b, k) for a soft-target cross-entropy.

        Raises:
            ConfigError: As ``mix_batch``; or if something will be wanted, now or in a later epoch,
                that is not given, or that only ``MixedLoss`` can give.
        """
        if classifier is None and len(images):
            self._refuse_without_classifier()
        for need in ("logits", "attention"):
            if action := self._wanting(need):
                raise ConfigError(
                    f"{self.decides} plays {action}, whose targets want the {need} of the mixed "
                    "images, which this call cannot ask for",
                    LOSS,
                )
        mixed = self.mixed(images, labels, classifier)
        return mixed.images, mixed.targets

    def collate(self, samples: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """Collate pairs of an image and its label as torch does, and mix them.

        For ``DataLoader(collate_fn=mixer.collate)``, where no classifier can be asked.

        Raises:
            ConfigError: As a call; or if a classifier will be wanted.
        """
        self._refuse_without_classifier()
        if not (isinstance(samples[0], tuple | list) and len(samples[0]) == 2):
            raise ConfigError(
                f"a sample is a {type(samples[0]).__name__}, wanted an image and its label",
                "collate as you do, and mix then: mixer(images, labels)",
            )
        images, labels = default_collate(list(samples))
        return self(images, labels)

    def _refuse_without_classifier(self) -> None:
        if action := self._wanting("classifier"):
            raise ConfigError(
                f"{self.decides} plays {action}, now or in a later epoch, which needs a classifier",
                "mix where the net is trained, and pass it: mixer(images, labels, classifier=net)",
            )

    @uncompiled
    def mixed(self, images: Tensor, labels: Tensor, classifier: Classifier | None = None) -> Mixed:
        """Mix a batch, as a call does; return all there is to know of it.

        Where ``revised`` is not None the classifier has its say in the targets:
        ``logits, targets = automix.mixing.loss.answered(net, mixed)``.

        Raises:
            ConfigError: As ``mix_batch``; or if a method makes steps of its own, now or later.
        """
        if action := self._wanting("step"):
            raise ConfigError(
                f"{self.decides} plays {action}, which makes training steps of its own and mixes "
                "no batches",
                LOSS,
            )
        action, targets, rng = self.batch(labels, len(images))
        return mix_batch(
            images,
            targets,
            action,
            num_classes=self.num_classes,
            rng=rng,
            classifier=classifier,
            settings=self.settings,
        )

    def batch(self, labels: Tensor, size: int) -> tuple[MixAction, Tensor, np.random.Generator]:
        """Return what a batch is to be mixed by.

        Args:
            labels: (b,) or (b, 1) int classes, or (b, k) probabilities.
            size: b.

        Returns:
            The action of the moment; the labels, smoothed if that is asked for; the draws.
        """
        self._check_ready()
        labels = checked_labels(labels, size, self.num_classes)
        if self.label_smoothing:
            labels = as_targets(labels, self.num_classes, self.label_smoothing)
        return self.action if self.mixup_enabled else PLAIN, labels, self._draws()

    def state_dict(self) -> dict[str, Any]:
        """Return progress, switches and draws, as plain data.

        A training that is resumed at the start of an epoch needs no state of a schedule's mixer:
        ``set_epoch`` is enough.
        """
        told, is_set = self._board[TOLD], self._board[LENGTH]
        return {
            "told": self._board[[PROGRESS, KEY]].tolist() if told else None,
            "action": asdict(self.action) if is_set else None,
            "mixup_enabled": self.mixup_enabled,
            "label_smoothing": self.label_smoothing,
            "place": self._place,
            "draws": self._rng.bit_generator.state if self._place else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state_dict`` returned, also within an epoch.

        Raises:
            DataError: If it is not the state of such a mixer; then nothing has changed.
        """
        names = ("told", "action", "mixup_enabled", "label_smoothing", "place", "draws")
        try:
            told, action, enabled, smoothing, place, draws = (state[name] for name in names)
            SMOOTHINGS.check("label_smoothing", smoothing)
            progress, key = told or (0.0, 0.0)
            Range(least=0).check("progress", progress)
            Range(least=-NEVER, below=NEVER).check("key", key)
            if not isinstance(enabled, bool):
                raise TypeError(f"mixup_enabled is {enabled!r}")
            chosen = MixAction(**action) if action else None
            if chosen:
                self._check(chosen)
            rng = generator(0)
            if place:
                rng.bit_generator.state = draws
        except (KeyError, TypeError, ValueError, ConfigError) as error:
            raise self._foreign(error) from None
        if told:
            self._tell(progress, None if key >= 0 else round(-1 - key))
        self.mixup_enabled, self.label_smoothing = enabled, smoothing
        if chosen:
            self.action = chosen
        self._place, self._rng = tuple(place) if place else None, rng

    def _foreign(self, error: Exception) -> DataError:
        return DataError(
            f"this is not the state of a mixer that {self.decides} decides for: {error!r}",
            "give load_state_dict what state_dict returned",
        )

    def _draws(self) -> np.random.Generator:
        """Return the draws of this epoch, rank and worker; those that have begun go on."""
        worker, key = get_worker_info(), float(self._board[KEY])
        place = key, self._own_rank(), worker.id + 1 if worker else 0
        if place != self._place:
            passes = 0
            if worker:  # begun anew for each epoch, unless it persists
                slot = PASSES + worker.id % WORKERS
                passes, self._board[slot] = int(self._board[slot]), self._board[slot] + 1
            bits = int(np.float64(key).view(np.uint64))
            self._rng = generator(self.seed, "schedule mixer", bits, *place[1:], passes)
            self._place = place
        return self._rng

    def _own_rank(self) -> int:
        if distributed.is_available() and distributed.is_initialized():
            return distributed.get_rank()
        return self._rank  # of the process that started this worker

    def _own_board(self) -> None:
        """Write where only this process and its workers read: each rank tells its own."""
        if self._owner != os.getpid():
            self._share(torch.from_numpy(self._board.copy()))
            self._owner = os.getpid()

    def _share(self, values: Tensor) -> None:
        self._shared = values.share_memory_()
        self._board: np.ndarray = self._shared.numpy()

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_board": None, "_rank": self._own_rank()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._share(state["_shared"])  # what a worker is sent is shared already, a copy is not


class ScheduleMixer(BatchMixer):
    """Mixes as a schedule says.

    Args:
        schedule: What to play when.
        num_classes: Classes of the labels.
        epochs: Of the training, for ``set_epoch``.
        seed: Of all draws.
        label_smoothing: Share of each label that goes to all classes alike, in [0, 1).
        settings: How actions are carried out.

    Raises:
        ConfigError: If one of the actions cannot be carried out so, at whatever epoch it comes.
    """

    decides = "the schedule"

    def __init__(
        self,
        schedule: MixSchedule,
        num_classes: int,
        *,
        epochs: int | None = None,
        seed: int = 0,
        label_smoothing: float = 0.0,
        settings: MixSettings,
    ) -> None:
        if epochs is not None:
            Range(least=1, whole=True).check("epochs", epochs)
        super().__init__(schedule.actions, num_classes, seed, settings, label_smoothing)
        self._schedule, self._epochs = schedule, epochs

    @property
    def _decided(self) -> MixAction:
        return self._schedule.at(self._board[PROGRESS])

    def set_epoch(self, epoch: int, epochs: float | None = None) -> bool:
        """Tell how many epochs are done, from 0 on, at the start of each.

        With workers, before the loop over their loader: they fetch ahead. A schedule stays on its
        last action after the last epoch, for trainers that cool down, and says so.

        Args:
            epoch: Whole, 0 or more.
            epochs: Of the training; those that the mixer was made with, if not given.

        Returns:
            False: a schedule asks nobody.

        Raises:
            ConfigError: If it is no whole number of 0 or more, or nobody told how many there are.
        """
        Range(least=0, whole=True).check("epoch", epoch)
        epochs = self._epochs if epochs is None else epochs
        if epochs is None:
            raise ConfigError(
                "nobody has told the mixer how many epochs there are",
                "make it with schedule.mixer(num_classes, epochs=...), or call set_progress",
            )
        Range(above=0).check("epochs", epochs)
        if epoch >= epochs > self._board[PROGRESS] * epochs:
            log.warning(
                "epoch %d of %g: the schedule is over and stays on %s",
                *(epoch, epochs, self._schedule.actions[-1]),
            )
        self._tell(epoch / epochs, epoch)
        return False

    def set_progress(self, progress: float) -> None:
        """Tell the share of the budget that is spent, where epochs do not say it.

        Raises:
            ConfigError: If it is no number of 0 or more.
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
        if self._board[TOLD] or self._board[LENGTH]:
            return
        if self._epochs is not None:
            raise ConfigError(
                "the mixer was made for epochs, and nobody has told it which begins",
                "call set_epoch(epoch) at the start of each, before the loop over the loader",
            )
        self._remind()

    def _remind(self) -> None:
        """Say once that nobody tells the progress, if it matters."""
        self._board[BATCHES] += 1
        if self._board[BATCHES] == ENOUGH and len(set(self._schedule.actions)) > 1:
            log.warning(
                "%d batches mixed, and neither set_epoch nor set_progress was ever called: the "
                "schedule stays on its first action, %s. Call one at the start of each epoch.",
                *(ENOUGH, self._schedule.actions[0]),
            )


def needs_of(action: MixAction, settings: MixSettings) -> Iterator[str]:
    """Yield what an action wants beside the batch: see ``BatchMixer.needs``."""
    if action.saliency != OFF and SALIENCY.info(action.saliency).needs_classifier:
        yield "classifier"
    if makes_steps(action):
        yield "step"
    elif action.mixes:
        rule = action.label_rule or settings.label_rule
        fixed = MIXES.info(action.method).keeps_label and not LABEL_RULES.info(rule).erasures
        asked = "" if fixed else asks_net(rule, tuple(settings.options))
        if asked:
            yield asked
