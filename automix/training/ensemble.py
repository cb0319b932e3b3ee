"""Training runs in lockstep: one stack of nets, equally many batches and epochs done."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn as nn
from timm.optim import Lookahead, create_optimizer_v2
from torch import Tensor

from automix.core.errors import ConfigError
from automix.core.seeding import borrowed_global_rng, derived_seed
from automix.data.image_set import Split
from automix.masks.method_steps import MethodState
from automix.mixing.actions import MixAction
from automix.mixing.loss import keeps_state, new_state, step_loss
from automix.mixing.targets import Revised
from automix.nets.create import create_classifier
from automix.nets.stacking import (
    Part,
    frozen_running_statistics,
    logits_of,
    same_draws_afterwards,
    stack,
)
from automix.training.batches.loader import Batch, BatchLoader, OwnStep
from automix.training.batches.members import Member, SharedBatches
from automix.training.metrics import LOSS_CAP, EpochLog, EpochMetrics, calibrated_loss, graded
from automix.training.optimising.average import Average
from automix.training.optimising.learning_rate import scheduler_of
from automix.training.optimising.losses import losses_and_gradients, training_losses
from automix.training.optimising.precision import autocast
from automix.training.optimising.target_memory import TargetMemory, probabilities
from automix.training.settings import TrainerSettings

MEASURED = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_confidence")
"""What is measured on probe and validation images, in this order."""

FUSED = frozenset({"adam", "adamw", "momentum", "nesterov", "sgd"})
"""timm optimizers that are torch's own, which has one kernel for a whole step of them."""

AT_ONCE = 128
"""Images that are measured in one pass on a CPU, and more of them where they are tiny."""

PIXELS_AT_ONCE = 2**15
"""So many pixels of all members together make more images than that tiny."""

MemberState = dict[str, Any]
"""Tensors, numbers, and dicts and lists of them: everything that a member's next epoch depends on,
whatever it is stacked with."""


class StackedEnsemble:
    """Members whose nets run as one stack, from reset to reset.

    Args:
        members: Task and seed of each member; equal ones are neighbours.
        nets: Their initial nets, of one architecture.
        settings: How to train.
        device: Where.
    """

    def __init__(
        self,
        members: Sequence[Member],
        nets: Sequence[nn.Module],
        settings: TrainerSettings,
        device: torch.device,
    ) -> None:
        self._members, self._settings, self._device = list(members), settings, device
        self._stack = stack(nets)
        # Channels last is up to twice as fast for narrow grouped convolutions, on CPU and GPU.
        self._net = self._stack.module().to(device)
        self._net.to(memory_format=torch.channels_last)
        self._weights: list[Tensor] = list(self._net.parameters())
        self._average: Average | None = None
        if settings.model_ema:
            self._average = Average(self._stack, settings.model_ema_decay)
        if settings.compile:
            self._stack.compile("reduce-overhead" if device.type == "cuda" else "default")
        average = self._average.stack if self._average else None
        self._loader = BatchLoader(members, self._stack, settings, device, average)
        self.epoch = self._updates = 0
        self._log = EpochLog(len(self._members), self._device)
        self._build_optimizer()

    def _build_optimizer(self) -> None:
        settings = self._settings
        fused: dict[str, Any] = {"fused": True} if settings.opt.lower() in FUSED else {}
        try:
            self._optimizer = create_optimizer_v2(
                self._net,
                opt=settings.opt,
                lr=settings.lr,
                weight_decay=settings.weight_decay,
                momentum=settings.momentum,
                **fused,
            )
        except ValueError as error:
            raise ConfigError(f"trainer.opt is {settings.opt!r}: {error}") from None
        if isinstance(self._optimizer, Lookahead):
            # It keeps everything in the one that it wraps, and says that there is nothing.
            self._optimizer.state = self._optimizer._base_optimizer.state
        self._updates_per_epoch = -(-self._members[0].data.trained // settings.batch_size)
        self._scheduler = scheduler_of(self._optimizer, settings, self._updates_per_epoch)

    # Training ------------------------------------------------------------------------------------

    def run_epochs(self, actions: Sequence[MixAction], epochs: int) -> None:
        """Train every member for some epochs under its action, without measuring."""
        for _ in range(epochs):
            self._run_epoch(actions, self._log)

    @property
    def unmeasured(self) -> bool:
        """Whether epochs have been trained that no record covers yet."""
        return not self._log.empty

    def measured(self) -> list[EpochMetrics]:
        """Measure, and return the records of all epochs since the last ones."""
        log, self._log = self._log, EpochLog(len(self._members), self._device)
        return self._close(log)

    def _run_epoch(self, actions: Sequence[MixAction], log: EpochLog) -> None:
        with self._private_draws():
            self._net.train()
            for batch in self._loader.batches(actions, self.epoch, self._updates, log):
                self._step(batch, log)
        self._count_epoch(log)

    def close_epoch(self, log: EpochLog) -> list[EpochMetrics]:
        """Count an epoch whose batches have all been stepped; measure and make the records."""
        self._count_epoch(log)
        return self._close(log)

    def _count_epoch(self, log: EpochLog) -> None:
        log.count(slice(None), self._members[0].data.trained, (1, 1))
        self.epoch += 1
        start = self._settings.self_adaptive.start_epoch
        if 0 < start <= self.epoch < self._settings.epochs:  # after the last they have no use
            self._adapt_targets(log)

    @torch.no_grad()
    def _adapt_targets(self, log: EpochLog) -> None:
        """Move each member's targets towards what it says of its training images, unmixed."""
        momentum = self._settings.self_adaptive.momentum
        data = [member.data for member in self._members]
        said = probabilities(self._stack, data, self._settings.precision, self._images_at_once())
        for slot, member in enumerate(self._members):
            memory = member.memory or TargetMemory(member.data.targets)
            memory.move(said[: len(member.data.train), slot], momentum)
            member.memory = memory
            log.count([slot], len(member.data.train), (1, 0))

    def _close(self, log: EpochLog) -> list[EpochMetrics]:
        log.gradient_squares = self._stack.member_squares()
        return self.measure(log)

    def _private_draws(self) -> AbstractContextManager[None]:
        """Lend nets that draw, for dropout, a private state of the global generator."""
        if not self._stack.draws:
            return contextlib.nullcontext()
        return borrowed_global_rng(derived_seed(self._members[0].seed, "dropout", self.epoch))

    def _step(self, batch: Batch, log: EpochLog) -> None:
        """Take a step, and record the gradients that maps are read off."""
        gradients = self.step(batch, log)
        if gradients is not None:
            self._loader.record_gradients(gradients)

    def step(self, batch: Batch, log: EpochLog) -> Tensor | None:
        """Take one optimizer step for every member, in training mode.

        Returns:
            The gradients (b, k, c, h, w) of the loss at the images, if the batch wants them.
        """
        images = batch.images.detach()
        if batch.wants_gradients:
            images.requires_grad_()
        apart = batch.own_steps or any(revise.watch for _, revise, _ in batch.revisions)
        losses = self._apart(batch, images, log) if apart else self._together(batch, images)
        for weight, gradient in batch.clean_gradients:
            weight.grad = gradient if weight.grad is None else weight.grad.add_(gradient)
        self._optimizer.step()
        if self._average:
            self._average.update()
        self._follow()
        self._updates += 1
        self._scheduler.step_update(self._updates)
        log.stepped(losses)
        return images.grad

    def _together(self, batch: Batch, images: Tensor) -> Tensor:
        """Send all members forward and backward in one pass; return their losses (b, k)."""
        b, k = batch.targets.shape[:2]
        with autocast(self._settings.precision, self._device):
            logits = self._stack(images)
        targets = _revised(batch, logits) if batch.revisions else batch.targets
        answers = logits.float().flatten(0, 1)
        # 1 / b is the gradient of each member's mean.
        losses, gradients = losses_and_gradients(
            answers, targets.flatten(0, 1), self._settings.margin, 1 / b
        )
        self._clear_gradients()
        answers.backward(gradients)
        return losses.view(b, k)

    def _apart(self, batch: Batch, images: Tensor, log: EpochLog) -> Tensor:
        """Send members forward one by one where their methods ask for it; else as ``_together``."""
        watched = {slot for slots, revise, _ in batch.revisions if revise.watch for slot in slots}
        joint = [i for i in range(len(self._members)) if i not in {*batch.own_steps, *watched}]
        parts: dict[int, Tensor] = {}
        with autocast(self._settings.precision, self._device):
            if joint:
                logits = self._stack.ask(joint, logits_of, images[:, joint], trains=True)[0]
                parts |= dict(zip(joint, logits.unbind(1), strict=True))
            targets = batch.targets.clone()
            for slots, revise, rows in batch.revisions:
                for slot in slots:
                    seen = None
                    if revise.watch:
                        parts[slot], seen = self._watched(slot, revise, images[:, slot], rows)
                    targets[:, slot] = revise(parts[slot], rows, seen)
            margin = self._settings.margin
            losses = {
                slot: training_losses(part.float(), targets[:, slot], margin)
                for slot, part in parts.items()
            }
            for slot, own in batch.own_steps.items():
                losses[slot] = self._own_losses(slot, own, log)
        found = torch.stack([losses[slot] for slot in range(len(self._members))], 1)
        self._clear_gradients()
        found.mean(0).sum().backward()
        return found.detach()

    def _clear_gradients(self) -> None:
        for parameter in self._weights:  # the optimizer's own way asks a profiler first
            parameter.grad = None

    def _watched(
        self, slot: int, revise: Revised, images: Tensor, rows: slice
    ) -> tuple[Tensor, Tensor]:
        """Return a member's logits (b, classes), and what its label rule saw inside the net, (b,).

        The draws of its dropout depend on the step alone, not on the other members.
        """
        watch = revise.watch
        assert watch is not None

        def question(net: nn.Module, *given: Tensor) -> tuple[Tensor, ...]:
            logits, seen = watch(net, *given)
            return logits, seen[:, None]

        start = rows.start or 0
        masks = revise.masks(np.arange(start, start + len(images)), images)
        with self._draws_of_step(slot):
            logits, seen = self._stack.ask(
                [slot], question, images[:, None], masks[:, None], trains=True
            )
        return logits[:, 0], seen[:, 0, 0]

    def _own_losses(self, slot: int, own: OwnStep, log: EpochLog) -> Tensor:
        """Let a member's method make the step; return its losses (b,)."""
        step, outcome = own.step, []
        if keeps_state(own.action):
            step = replace(step, state=self._state_of(slot, own.action.method))

        def question(net: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
            outcome.append(step_loss(net, step, own.action, self._settings.mix))
            return (outcome[0].losses[:, None],)

        with self._draws_of_step(slot):
            losses = self._stack.ask([slot], question, step.images[:, None], trains=True)[0]
        log.mixed([slot], outcome[0].own_share)
        log.count([slot], len(step.images), outcome[0].passes)
        return losses[:, 0, 0].float()

    def _draws_of_step(self, slot: int) -> AbstractContextManager[None]:
        if not self._stack.draws:
            return contextlib.nullcontext()
        seed = derived_seed(self._members[slot].seed, "dropout", self.epoch, self._updates)
        return borrowed_global_rng(seed)

    def _state_of(self, slot: int, method: str) -> MethodState:
        """Return what a method keeps for a member; it begins where the member is now."""
        member = self._members[slot]
        if method not in member.states:
            data, settings = member.data, self._settings
            net = create_classifier(
                settings.model,
                num_classes=data.classes,
                shape=data.task.images.shape,
                seed=member.seed,
            )
            # Not strict: some nets compute buffers themselves, which no file or net gives them.
            net.load_state_dict(self._weights_of(slot), strict=False)
            member.states[method] = new_state(
                net.to(self._device),
                method,
                classes=data.classes,
                shape=data.task.images.shape,
                steps=settings.epochs * self._updates_per_epoch,
                seed=member.seed,
                settings=settings.mix,
            )
        return member.states[method]

    def _weights_of(self, slot: int) -> dict[str, Tensor]:
        return {
            name: value.detach()[rows] for name, (value, rows) in self._stack.parts(slot).items()
        }

    def _follow(self) -> None:
        """Let states see the weights, whichever method made the step."""
        for slot, member in enumerate(self._members):
            if member.states:
                weights = self._weights_of(slot)
                for state in member.states.values():
                    state.follow(weights)

    # Batch by batch, by a caller's choice -------------------------------------------------------

    @property
    def draws(self) -> bool:
        """Whether the nets may draw while they train (dropout), from the global generator."""
        return self._stack.draws

    @property
    def shared_batches(self) -> list[SharedBatches]:
        """Where batches come from, one for all members that share task and seed."""
        return self._loader.shared_batches

    def targets(self, slot: int) -> Tensor:
        """Return the targets (b, classes) of the images that a member was given last."""
        (shared,) = (shared for shared in self.shared_batches if slot in shared.slots)
        return shared.targets_for(self._members[slot])

    def classify(self, slot: int, images: Tensor) -> Tensor:
        """Return a member's logits (b, classes) float32 for (b, c, h, w), in training mode.

        A look: it leaves no trace in running statistics and dropout, and no gradient need reach
        the weights.
        """
        self._net.train()
        with (
            autocast(self._settings.precision, self._device),
            frozen_running_statistics(self._net),
            same_draws_afterwards(self._device, enabled=self._stack.draws),
        ):
            return self._stack.ask([slot], logits_of, images[:, None])[0][:, 0].float()

    # Measuring -----------------------------------------------------------------------------------

    @torch.no_grad()
    def logits(self, images: Tensor | Split) -> Tensor:
        """Return every member's logits, (b, k, classes) float32, for the same images."""
        evaluate = self._stack.evaluator()
        with autocast(self._settings.precision, self._device):
            parts = [
                evaluate(part.to(self._device)[:, None]).float()
                for part in images.split(self._images_at_once())
            ]
        return torch.cat(parts)

    @torch.no_grad()
    def measure(self, log: EpochLog | None = None) -> list[EpochMetrics]:
        """Measure probe and validation split in one pass and make the records."""
        log = log or EpochLog(len(self._members), self._device)
        evaluate, labels = self._stack.evaluator(), self._seen_labels
        first = self._members[0].data
        with autocast(self._settings.precision, self._device):
            logits = torch.cat([evaluate(images).float() for images in self._seen_images()])
        log.count(slice(None), len(first.seen), (1, 0))
        grades, val = torch.stack(graded(logits, labels)), slice(first.probe, None)
        means = (*grades[:, : first.probe].mean(1)[:2], *grades[:, val].mean(1))
        columns = dict(zip(MEASURED, means, strict=True)) | log.columns()
        if self.epoch == self._settings.epochs:
            columns["val_calibrated_loss"] = calibrated_loss(logits[val], labels[val])
        rows = torch.stack(list(columns.values()), 1).tolist()
        for member, row in zip(self._members, rows, strict=True):
            member.diverged |= not all(map(math.isfinite, row))
        return [
            self._record(dict(zip(columns, row, strict=True)), slot, log)
            for slot, row in enumerate(rows)
        ]

    def _images_at_once(self) -> int:
        if self._device.type == "cpu":
            return measured_at_once(len(self._members), self._members[0].data.task.images.shape)
        # A GPU wants much at once, of all members together.
        return max(self._settings.batch_size, 2048 // len(self._members))

    def _seen_images(self) -> Iterator[Tensor]:
        """Yield probe and validation images, (b, j, c, h, w).

        Those of shared batches once, if every member can be found by that; else one for each
        member.
        """
        alike = len({len(shared.slots) for shared in self.shared_batches}) == 1
        sources = [one.data for one in (self.shared_batches if alike else self._members)]
        splits = [data.seen.split(self._images_at_once()) for data in sources]
        for parts in zip(*splits, strict=True):
            yield torch.stack(parts, 1) if len(parts) > 1 else parts[0][:, None]

    @cached_property
    def _seen_labels(self) -> Tensor:
        """Return the labels of these images, (b, k)."""
        return torch.stack([member.data.seen_labels for member in self._members], 1)

    def _record(self, values: dict[str, float], slot: int, log: EpochLog) -> EpochMetrics:
        diverged = self._members[slot].diverged
        if diverged:
            values = {name: LOSS_CAP if "loss" in name else 0.0 for name in values}
        return EpochMetrics(
            epoch=self.epoch,
            lr=float(self._optimizer.param_groups[0]["lr"]),
            forward_passes=log.forward[slot],
            backward_passes=log.backward[slot],
            diverged=diverged,
            **{
                name: min(value, LOSS_CAP) if "loss" in name else value
                for name, value in values.items()
            },
        )

    # State ---------------------------------------------------------------------------------------

    def state_dict(self, slot: int) -> MemberState:
        """Return a copy of everything that a member's next epoch depends on.

        Batch order and mixing draws are functions of seed and epoch, so numbers, weights and
        remembered maps and targets are all there is. The classifier's state is that of its net
        alone.
        """
        parts = self._stack.parts(slot)
        return {
            **self._members[slot].state_dict(),
            "epoch": self.epoch,
            "updates": self._updates,
            "classifier": {name: value.clone() for name, value in self._weights_of(slot).items()},
            "optimizer": {
                name: {
                    key: _part(entry, value, rows)
                    for key, entry in self._optimizer.state.get(value, {}).items()
                }
                for name, (value, rows) in parts.items()
            },
            "optimizer_groups": [
                {key: copy.deepcopy(value) for key, value in group.items() if _is_data(key, value)}
                for group in self._optimizer.param_groups
            ],
            "average": {
                name: value[rows].clone() for name, (value, rows) in self._averages(slot).items()
            },
        }

    def _averages(self, slot: int) -> dict[str, Part]:
        """Return where the moving average of a member lies; nothing where none is kept."""
        return self._average.stack.parts(slot) if self._average else {}

    @torch.no_grad()
    def load_state_dict(self, states: Sequence[MemberState]) -> None:
        """Go on from states, one for each member, that have done equally many epochs."""
        self.epoch, self._updates = states[0]["epoch"], states[0]["updates"]
        for group, values in zip(
            self._optimizer.param_groups, states[0]["optimizer_groups"], strict=True
        ):
            group.update(copy.deepcopy(values))
        for slot, (member, state) in enumerate(zip(self._members, states, strict=True)):
            member.load_state_dict(state)
            for name, (value, rows) in self._stack.parts(slot).items():
                value[rows] = state["classifier"][name]
                for key, entry in state["optimizer"][name].items():
                    _put(self._optimizer.state[value], key, entry, value, rows)
            for name, (value, rows) in self._averages(slot).items():
                value[rows] = state["average"][name]
            for name, kept in state["methods"].items():
                self._state_of(slot, name).load_state_dict(kept)
        self._scheduler.step_update(self._updates)


def measured_at_once(members: int, shape: tuple[int, int, int]) -> int:
    """Return how many images (c, h, w) some members measure in one pass on a CPU.

    Calls are what the smallest passes cost, so that they take more at once. Larger ones would cost
    more per image: their temporaries leave the cache.
    """
    return max(AT_ONCE, PIXELS_AT_ONCE // (members * shape[1] * shape[2]))


def _revised(batch: Batch, logits: Tensor) -> Tensor:
    """Return the targets (b, k, classes) as label rules make them of the classifiers' logits."""
    targets = batch.targets.clone()
    for slots, revise, rows in batch.revisions:
        for slot in slots:
            targets[:, slot] = revise(logits[:, slot], rows)
    return targets


def _is_data(key: str, value: Any) -> bool:
    """Return whether an entry of an optimizer's group is part of a state.

    Types are no data; they follow from the settings.
    """
    return key != "params" and not isinstance(value, torch.dtype)


def _part(entry: Any, parameter: Tensor, rows: Any) -> Any:
    """Return a member's part of an optimizer's entry for a parameter, copied."""
    shaped = isinstance(entry, Tensor) and entry.shape == parameter.shape and entry.dim() > 0
    return entry[rows].clone() if shaped else copy.deepcopy(entry)


def _put(state: dict[str, Any], key: str, entry: Any, parameter: Tensor, rows: Any) -> None:
    """Write a member's part of an optimizer's entry where ``_part`` read it."""
    part = parameter[rows]
    if isinstance(entry, Tensor) and entry.shape == part.shape and entry.dim() > 0:
        if key not in state:
            state[key] = torch.empty_like(parameter, dtype=entry.dtype)
        state[key][rows] = entry.to(parameter.device)
    else:
        state[key] = copy.deepcopy(entry)
