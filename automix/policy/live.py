"""A policy at work: a mixer that is asked anew at the policy's own times, in any training loop.

It needs neither the agent nor the environment that it was learned with::

    known = {"train_size": len(train), "batch_size": 64, "augmented": True}
    mixer = load_policy().mixer(10, epochs=epochs, **known)
    for epoch in range(epochs):
        if mixer.set_epoch(epoch):
            mixer.observe(probe=(net(probe_images), probe_labels), val=(net(images), labels))
        for images, labels in loader:
            images, targets = mixer(images, labels)
            ...
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, distributed

from automix.core.errors import ConfigError
from automix.core.settings import Range
from automix.mixing.actions import MixAction
from automix.mixing.batch import MixSettings
from automix.mixing.checks import check_range, checked_labels
from automix.policy.mixer import CHOICE, NEVER, PROGRESS, BatchMixer
from automix.policy.observations import ObservationInputs, TaskFacts
from automix.policy.policy_net import State
from automix.training.metrics import LOSS_CAP, EpochMetrics, graded

if TYPE_CHECKING:
    from automix.policy.policy import MixPolicy

log = logging.getLogger("automix")

Answers = tuple[Tensor, Tensor]
"""Logits (n, classes) and integer labels (n,)."""

FACTS = {
    "log_steps": "batch_size",
    "log_parameters": "parameters",
    "lr_share": "peak_lr",
    "augmented": "augmented",
}
"""Observations, and the argument that tells what they are made of."""

NUMBERS = ("learning_rate", "gradient_norm", "mixed_loss", "partner_share")
"""What ``observe`` takes beside answers."""


NEARLY = 1e-2
"""Of a sum of 1, in half precision."""

UNASKED, ASKED = 0, 1
"""What shared memory says of the policy's choice, before the choice itself."""

NOTHING = (math.nan, math.nan, math.nan)
"""What is known of answers that were not given."""


class LiveMixer(BatchMixer):
    """Mixes as a policy says that looks at the training.

    Args:
        policy: What is asked.
        num_classes: Classes of the labels.
        facts: Of the training that begins.
        seed: Of all draws.
        settings: How actions are carried out.
        label_smoothing: Share of each label that goes to all classes alike, in [0, 1).

    Raises:
        ConfigError: If one of the policy's choices cannot be carried out so, or the training has
            fewer epochs than the policy makes decisions.
        DataError: If this version does not know the policy's observations.
    """

    decides = "the policy"

    def __init__(
        self,
        policy: MixPolicy,
        num_classes: int,
        facts: TaskFacts,
        seed: int,
        settings: MixSettings,
        label_smoothing: float = 0.0,
    ) -> None:
        self._policy, self._facts = policy, facts
        self._starts = policy.form.starts(facts.budget)
        self._observer = policy.observer()
        choices = [MixAction.parse(choice) for choice in policy.form.choices]
        choice = 1 + policy.sample_size
        super().__init__(choices, num_classes, seed, settings, label_smoothing, choice)
        self._records: list[EpochMetrics] = []
        self._memory: State | None = None
        self._epoch, self._due, self._outside = -1, NEVER, set[str]()

    @property
    def _decided(self) -> MixAction:
        if not self._records and self._board[CHOICE] == UNASKED:
            raise ConfigError(
                "the policy has not been asked yet",
                "call set_epoch(0) and observe(probe=..., val=...) before the first batch",
            )
        numbers = self._board[CHOICE + 1 :]
        if self._policy.form.space == "box":
            return self._policy.mix_of(numbers)
        return self._policy.mix_of(numbers.astype(int).squeeze())

    def set_epoch(self, epoch: int, epochs: float | None = None) -> bool:
        """Tell how many epochs are done, from 0 on, at the start of each.

        From 0 again, a training begins that the policy knows nothing of.

        Args:
            epoch: Whole, 0 or more.
            epochs: Of the training, if the mixer is to check it; a policy has planned for them.

        Returns:
            Whether the policy is to be asked now: measure, then call ``observe``.

        Raises:
            ConfigError: If it is no whole number of 0 or more, goes back, or the policy was to be
                asked in between and has not been.
        """
        Range(least=0, whole=True).check("epoch", epoch)
        if epochs is not None and epochs != self._facts.budget:
            raise ConfigError(
                f"the training has {epochs} epochs, and the policy has planned for "
                f"{self._facts.budget}",
                "make the mixer with policy.mixer(..., epochs=...)",
            )
        if epoch == 0 < self._epoch:
            self._records, self._memory = [], None
            self._board[CHOICE] = UNASKED
        elif epoch < self._epoch:
            raise ConfigError(f"epoch {epoch} begins after epoch {self._epoch}")
        elif self._due < epoch or (epoch and not self._records):
            raise ConfigError(
                f"epoch {epoch} begins, and the policy was to be asked before epoch "
                f"{self._due if self._due < epoch else 0}",
                "call observe where set_epoch returns True; to resume, load_state_dict first",
            )
        if epoch >= self._facts.budget > self._epoch:
            log.warning(
                "epoch %d of %d: the policy's plan is over and stays on %s",
                *(epoch, self._facts.budget, self.action),
            )
        self._epoch = epoch
        self._tell(epoch / self._facts.budget, epoch)
        asked = self._records[-1].epoch if self._records else -1
        due = any(asked < start <= epoch for start in self._starts)
        self._due = epoch if due else NEVER
        if due:
            self._board[CHOICE] = UNASKED
        return due

    def observe(
        self, *, probe: Answers | None = None, val: Answers | None = None, **numbers: float
    ) -> MixAction:
        """Show the policy what the net answers now, in evaluation mode; return what it chooses.

        At other times than ``set_epoch`` says nothing is asked. In a group of processes
        (``torch.distributed``) rank 0 decides for all; the others may leave everything out.

        Args:
            probe: Logits (n, classes) and labels (n,) of some unmixed training images, the same
                ones each time, with the labels that training sees.
            val: The same of validation images.
            numbers: What else the policy sees: ``learning_rate`` now, ``gradient_norm`` of the last
                batch, ``mixed_loss`` and ``partner_share``, means since it was last asked.

        Raises:
            ConfigError: If something that the policy sees is left out, or not finite, or no such
                thing.
        """
        if self._due != self._epoch:
            return self.action
        group = distributed.is_available() and distributed.is_initialized()
        if not group or distributed.get_rank() == 0:
            choice = self._ask(self._measured(probe, val, numbers))
        else:
            choice = np.zeros(self._policy.sample_size)
            self._records.append(_record(self._epoch))
        if group:
            choice = _rank_0s(choice)
        self._board[CHOICE], self._board[CHOICE + 1 :] = ASKED, choice
        self._due = NEVER
        return self.action

    def state_dict(self) -> dict[str, Any]:
        """Return what the policy was shown, as plain data: to resume, with the epoch, from it."""
        return super().state_dict() | {
            "records": [asdict(record) for record in self._records],
            "choice": self._board[CHOICE:].tolist(),
            "memory": self._memory and [part.tolist() for part in self._memory],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what the policy was shown; the next ``set_epoch`` says where.

        Raises:
            DataError: If it is not the state of a mixer of this policy; then nothing has changed.
        """
        try:
            records = [EpochMetrics(**record) for record in state["records"]]
            choice = np.broadcast_to(np.array(state["choice"], float), self._board[CHOICE:].shape)
            memory = state["memory"] and [np.array(m, dtype=np.float32) for m in state["memory"]]
        except (KeyError, TypeError, ValueError) as error:
            raise self._foreign(error) from None
        super().load_state_dict(state)
        self._board[CHOICE:] = choice
        self._epoch, self._due = -1, NEVER  # a mixer that has gone further may go back
        self._records, self._memory = records, (memory[0], memory[1]) if memory else None

    def _check_ready(self) -> None:
        if self._board[CHOICE] == UNASKED:  # which workers see, too
            epoch = round(self._board[PROGRESS] * self._facts.budget)
            raise ConfigError(
                f"the policy is to be asked before epoch {epoch}, and has not been",
                "where set_epoch returns True, call observe(probe=..., val=...) first",
            )

    def _ask(self, record: EpochMetrics) -> np.ndarray:
        """Return what the policy chooses at a record, as the numbers of its action space."""
        last = self.action if self._records else None
        history = [*self._records, record]
        seen = self._observer(
            ObservationInputs(
                history=history, last_action=last, facts=self._facts, vocabulary=self._policy.form
            )
        )
        self._check_seen(seen)
        samples, self._memory = self._policy.predict(seen[None], self._memory)
        self._records = history
        return np.atleast_1d(np.asarray(samples[0], dtype=np.float64))

    def _measured(
        self, probe: Answers | None, val: Answers | None, numbers: Mapping[str, float]
    ) -> EpochMetrics:
        unknown = set(numbers) - set(NUMBERS)
        if unknown:
            raise ConfigError(
                f"observe was given {', '.join(sorted(unknown))}",
                f"it takes probe, val, {', '.join(NUMBERS)}",
            )
        if "partner_share" in numbers:
            share = Range(least=0, most=1, hint="it is a share, not percent")
            share.check("partner_share", numbers["partner_share"])
        return _record(self._epoch, self._means("probe", probe), self._means("val", val), numbers)

    def _means(self, name: str, answers: Answers | None) -> Sequence[float]:
        """Return mean loss, accuracy and confidence of some answers; nan where there are none."""
        if answers is None:
            return NOTHING
        logits, labels = _checked(name, answers, self.num_classes)
        grades = torch.stack(graded(logits[:, None], labels[:, None]))
        means: list[float] = grades[:, :, 0].mean(1).tolist()
        return means

    def _check_seen(self, seen: np.ndarray) -> None:
        """Refuse what is missing; say once of each observation that it is like nothing learned."""
        names, ends = self._observer.names, np.cumsum(self._observer.sizes)[:-1]
        for name, part in zip(names, np.split(seen, ends), strict=True):
            if not np.isfinite(part).all():
                raise ConfigError(
                    f"the policy sees {name}, and what it is made of is missing or not finite",
                    f"give observe probe and val, and {', '.join(NUMBERS)} where the policy sees "
                    "them; docs/metrics.md says which",
                )
            beyond = part[self._policy.beyond(name, part)]
            if beyond.size and name not in self._outside:
                self._outside.add(name)
                log.warning(
                    "the policy is asked outside of what it has seen: %s is %.3g, learned on "
                    "%.3g to %.3g",
                    *(name, float(beyond[0]), *self._policy.learned_range(name)),
                )


def checked_facts(
    observations: Sequence[str], epochs: int, train_size: int, num_classes: int, **told: Any
) -> TaskFacts:
    """Return what is known of a training, if it is all that a policy wants to know.

    Args:
        observations: Of the policy.
        epochs: Of the training.
        train_size: Training images.
        num_classes: Classes.
        told: Other fields of ``TaskFacts``, None where nobody told.

    Raises:
        ConfigError: If one is missing or out of range.
    """
    for observation, argument in FACTS.items():
        if observation in observations and told[argument] is None:
            raise ConfigError(
                f"the policy sees {observation}, which wants {argument}",
                f"give it: policy.mixer(..., {argument}=...)",
            )
    given = {name: value for name, value in told.items() if value is not None}
    counts = {"epochs": epochs, "train_size": train_size, "batch_size": given.get("batch_size", 1)}
    for name, value in counts.items():
        Range(least=1, whole=True).check(name, value)
    return TaskFacts(budget=epochs, train_size=train_size, num_classes=num_classes, **given)


def _checked(name: str, answers: Answers, num_classes: int) -> Answers:
    """Return logits and integer labels on one device."""
    try:
        logits, labels = answers
    except (TypeError, ValueError):
        raise ConfigError(f"{name} is not a pair, wanted (logits, labels)") from None
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else None
    if not shape or shape[1:] != (num_classes,):
        raise ConfigError(
            f"{name}: logits are {shape or type(logits).__name__}, wanted (n, {num_classes})",
            "they are what the net returns, before any softmax",
        )
    if not len(logits):
        raise ConfigError(f"{name} is empty, wanted some answers of the net")
    labels = checked_labels(labels, len(logits), num_classes)
    if labels.is_floating_point():
        labels = labels.argmax(1)
    check_range(int(labels.min()), int(labels.max()), num_classes)
    logits = logits.detach()
    if not logits.isfinite().all():
        raise ConfigError(f"{name}: logits are not finite: the training has diverged")
    if num_classes > 1 and logits.min() >= 0 and (logits.sum(1) - 1).abs().max() < NEARLY:
        raise ConfigError(
            f"{name}: logits look like probabilities: each row sums to 1",
            "give what the net returns before any softmax",
        )
    return logits, labels.to(logits.device).long()


def _record(
    epoch: int,
    train: Sequence[float] = NOTHING,
    val: Sequence[float] = NOTHING,
    numbers: Mapping[str, float] = MappingProxyType({}),
) -> EpochMetrics:
    """Return a record of means (loss, accuracy, confidence) and ``NUMBERS``, nan if unknown."""
    rate, norm, mixed, share = (float(numbers.get(name, math.nan)) for name in NUMBERS)
    return EpochMetrics(
        epoch=epoch,
        train_loss=min(train[0], LOSS_CAP),
        train_accuracy=train[1],
        val_loss=min(val[0], LOSS_CAP),
        val_accuracy=val[1],
        val_confidence=val[2],
        gradient_norm=norm,
        mixed_loss=min(mixed, LOSS_CAP),
        partner_share=share,
        lr=rate,
        forward_passes=0,
        backward_passes=0,
        diverged=False,
    )


def _rank_0s(choice: np.ndarray) -> np.ndarray:
    """Return what rank 0 has chosen."""
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    shared = torch.from_numpy(choice).to(device)
    distributed.broadcast(shared, 0)
    return np.asarray(shared.cpu().numpy())
