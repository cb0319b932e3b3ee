"""A policy at work: a mixer that is asked anew at the policy's own times, in any training loop.

It needs neither the agent nor the environment that it was learned with::

    mixer = load_policy().mixer(10, epochs=epochs, train_size=len(train), batch_size=64)
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
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, distributed

from automix.core.errors import ConfigError
from automix.core.settings import Range
from automix.mixing.actions import MixAction
from automix.mixing.batch import MixSettings
from automix.mixing.checks import check_range, checked_labels
from automix.policy.mixer import CHOICE, BatchMixer
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

ASKED = CHOICE
"""Where in shared memory it stands whether the policy has chosen; its choice follows."""

TOLERANCE = 1e-5
"""By which ranges are rounded in ``policy.json``."""


class LiveMixer(BatchMixer):
    """Mixes as a policy says that looks at the training.

    Args:
        policy: What is asked.
        num_classes: Classes of the labels.
        facts: Of the training that begins.
        seed: Of all draws.
        settings: How actions are carried out.

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
    ) -> None:
        self._policy, self._facts = policy, facts
        self._starts = policy.form.starts(facts.budget)
        self._observer = policy.observer()
        choices = [MixAction.parse(choice) for choice in policy.form.choices]
        super().__init__(choices, num_classes, seed, settings, 1 + policy.sample_size)
        self._records: list[EpochMetrics] = []
        self._memory: State | None = None
        self._epoch, self._outside = -1, set[str]()

    @property
    def action(self) -> MixAction:
        """What is played now.

        Raises:
            ConfigError: Before the policy has been asked for the first time.
        """
        if not self._board[ASKED]:
            raise ConfigError(
                "the policy has not been asked yet",
                "call set_epoch(0) and observe(probe=..., val=...) before the first batch",
            )
        numbers = self._board[ASKED + 1 :]
        if self._policy.form.space == "box":
            return self._policy.mix_of(numbers)
        return self._policy.mix_of(numbers.astype(int).squeeze())

    def set_epoch(self, epoch: int) -> bool:
        """Tell how many epochs are done, from 0 on, at the start of each.

        Returns:
            Whether the policy is to be asked now: measure, then call ``observe``.

        Raises:
            ConfigError: If it is no whole number of 0 or more, or if the policy was to be asked in
                between and has not been.
        """
        Range(least=0, whole=True).check("epoch", epoch)
        due = sum(start < epoch for start in self._starts)
        if len(self._records) < due:
            missed = self._starts[len(self._records)]
            raise ConfigError(
                f"epoch {epoch} begins, and the policy was to be asked before epoch {missed}",
                "call observe where set_epoch returns True; to resume, load_state_dict first",
            )
        if epoch >= self._facts.budget > self._epoch:
            log.warning(
                "epoch %d of %d: the policy's plan is over and stays on %s",
                *(epoch, self._facts.budget, self.action),
            )
        self._epoch = epoch
        self._tell(epoch / self._facts.budget)
        return self._due

    @property
    def _due(self) -> bool:
        return self._starts[len(self._records) :][:1] == [self._epoch]

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
        if not self._due:
            return self.action
        group = distributed.is_available() and distributed.is_initialized()
        if not group or distributed.get_rank() == 0:
            choice = self._ask(self._measured(probe, val, numbers))
        else:
            choice = np.zeros(self._policy.sample_size)
            self._records.append(_unseen(self._epoch))
        if group:
            choice = _rank_0s(choice)
        self._board[ASKED], self._board[ASKED + 1 :] = 1, choice
        return self.action

    def state_dict(self) -> dict[str, Any]:
        """Return what the policy was shown, as plain data: to resume, with the epoch, from it."""
        return {
            "records": [asdict(record) for record in self._records],
            "choice": self._board[ASKED:].tolist(),
            "memory": self._memory and [part.tolist() for part in self._memory],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what the policy was shown; the next ``set_epoch`` says where."""
        self._records = [EpochMetrics(**record) for record in state["records"]]
        self._board[ASKED:] = state["choice"]
        self._memory = None
        if state["memory"]:
            hidden, cell = (np.array(part, dtype=np.float32) for part in state["memory"])
            self._memory = hidden, cell

    def _check_ready(self) -> None:
        if self._due:
            raise ConfigError(
                f"the policy is to be asked before epoch {self._epoch}, and has not been",
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
        unknown = set(numbers) - {"learning_rate", *_NUMBERS}
        if unknown:
            raise ConfigError(
                f"observe was given {', '.join(sorted(unknown))}",
                f"it takes probe, val, learning_rate, {', '.join(_NUMBERS)}",
            )
        columns = {**self._graded("probe", probe), **self._graded("val", val)}
        columns |= {name: float(numbers.get(name, math.nan)) for name in _NUMBERS}
        columns["lr"] = float(numbers.get("learning_rate", math.nan))
        return _record(
            self._epoch,
            {name: min(x, LOSS_CAP) if "loss" in name else x for name, x in columns.items()},
        )

    def _graded(self, name: str, answers: Answers | None) -> dict[str, float]:
        """Return loss, accuracy and confidence of some answers; nan where there are none."""
        split = "train" if name == "probe" else name
        means = [math.nan] * 3
        if answers is not None:
            logits, labels = _checked(name, answers, self._num_classes)
            means = torch.stack(graded(logits[:, None], labels[:, None]))[:, :, 0].mean(1).tolist()
        found = dict(zip(("loss", "accuracy", "confidence"), means, strict=True))
        if split == "train":
            del found["confidence"]
        return {f"{split}_{key}": value for key, value in found.items()}

    def _check_seen(self, seen: np.ndarray) -> None:
        """Refuse what is missing; say once of each observation that it is like nothing learned."""
        known = self._policy.about.get("observed")
        names, sizes = self._observer.names, self._observer.sizes
        for name, part in zip(names, np.split(seen, np.cumsum(sizes)[:-1]), strict=True):
            if not np.isfinite(part).all():
                raise ConfigError(
                    f"the policy sees {name}, and what it is made of is missing or not finite",
                    "give observe probe and val, and " + ", ".join(_NUMBERS) + " or learning_rate "
                    "where the policy sees them; docs/metrics.md says which",
                )
            ends = known.get(name) if isinstance(known, Mapping) else None
            if ends and name not in self._outside:
                least, most = ends[0] - TOLERANCE, ends[-1] + TOLERANCE
                if ((part < least) | (part > most)).any():
                    self._outside.add(name)
                    log.warning(
                        "the policy is asked outside of what it has seen: %s is %.3g, learned on "
                        "%.3g to %.3g",
                        *(name, float(part[((part < least) | (part > most)).argmax()])),
                        *(ends[0], ends[-1]),
                    )


_NUMBERS = ("gradient_norm", "mixed_loss", "partner_share")


def live_mixer(
    policy: MixPolicy,
    num_classes: int,
    epochs: int,
    train_size: int,
    told: Mapping[str, Any],
    seed: int,
    settings: MixSettings,
) -> LiveMixer:
    """Return a mixer after checking that everything is told that the policy wants to know.

    Args:
        policy: What is asked.
        num_classes: Classes of the labels.
        epochs: Of the training.
        train_size: Training images.
        told: Other facts (``TaskFacts``), None where nobody told.
        seed: Of all draws.
        settings: How actions are carried out.

    Raises:
        ConfigError: If one is missing or out of range.
    """
    for name, value in (("epochs", epochs), ("train_size", train_size)):
        Range(least=1, whole=True).check(name, value)
    for observation, argument in FACTS.items():
        if observation in policy.form.observations and told[argument] is None:
            raise ConfigError(
                f"the policy sees {observation}, which wants {argument}",
                f"give it: policy.mixer(..., {argument}=...)",
            )
    given = {name: value for name, value in told.items() if value is not None}
    if "batch_size" in given:
        Range(least=1, whole=True).check("batch_size", given["batch_size"])
    facts = TaskFacts(budget=epochs, train_size=train_size, num_classes=num_classes, **given)
    return LiveMixer(policy, num_classes, facts, seed, settings)


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
    labels = checked_labels(labels, len(logits), num_classes)
    if labels.is_floating_point():
        labels = labels.argmax(1)
    check_range(int(labels.min()), int(labels.max()), num_classes)
    logits = logits.detach()
    if not logits.isfinite().all():
        raise ConfigError(f"{name}: logits are not finite: the training has diverged")
    return logits, labels.to(logits.device).long()


def _record(epoch: int, columns: Mapping[str, float]) -> EpochMetrics:
    counted = {"epoch": epoch, "forward_passes": 0, "backward_passes": 0, "diverged": False}
    return EpochMetrics(**dict[str, Any](columns), **dict[str, Any](counted))


def _unseen(epoch: int) -> EpochMetrics:
    """Return the record of a process that rank 0 decides for."""
    names = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_confidence", "lr")
    return _record(epoch, dict.fromkeys((*names, *_NUMBERS), 0.0))


def _rank_0s(choice: np.ndarray) -> np.ndarray:
    """Return what rank 0 has chosen."""
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    shared = torch.from_numpy(choice).to(device)
    distributed.broadcast(shared, 0)
    return np.asarray(shared.cpu().numpy())
