"""Train classifiers epoch by epoch, one mix action an epoch.

``Population`` trains k of them side by side on one task from equal weights with equal batches, so
that they differ in their actions only; ``Trainer`` is one alone. Both have the same contract:
``reset``, ``run_epoch``, ``snapshot``, ``restore``.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torch import Tensor

from automix.actions import OFF, MixAction
from automix.data.image_set import Split
from automix.data.memory import images_a_piece
from automix.data.tasks import Task
from automix.errors import ConfigError
from automix.metrics import LOSS_CAP, EpochMetrics, accuracies, confidences, sample_losses
from automix.mixing import MixSettings, as_targets, mix_batch
from automix.models import create_classifier
from automix.saliency import SALIENCY
from automix.seeding import borrowed_global_rng, derived_seed, generator
from automix.stacking import Stack, frozen_running_statistics, same_draws_afterwards, stack

ELEMENTWISE = frozenset(
    {
        *("adabelief", "adadelta", "adagrad", "adam", "adamax", "adamc", "adamw", "adan"),
        *("adanw", "adopt", "adoptw", "laprop", "lion", "madgrad", "momentum", "nadam", "nadamc"),
        *("nadamw", "nesterov", "nesterovw", "radam", "radamw", "rmsprop", "rmsproptf", "sgd"),
        *("sgdc", "sgdw"),
    }
)
"""timm optimizers that treat each weight by itself. Others take norms over whole tensors, in which
the members of a stack would meet."""

Snapshot = dict[str, Any]
"""Tensors, numbers, and dicts and lists of them: everything that the next epoch depends on."""


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """How a classifier is trained; timm's names."""

    model: str = "small_cnn_w8"
    """A timm model."""
    epochs: int = 20
    """The budget: epochs of one training."""
    batch_size: int = 50
    opt: str = "nesterov"
    """A timm optimizer."""
    lr: float = 0.1
    weight_decay: float = 1e-4
    momentum: float = 0.9
    sched: str = "cosine"
    """A timm scheduler, stepped once per batch."""
    warmup_epochs: int = 3
    min_lr: float = 1e-5
    label_smoothing: float = 0.0
    """In [0, 1); applied before mixing."""
    probe_size: int = 200
    """Training images, unmixed, that the train metrics are measured on each epoch."""
    mix: MixSettings = field(default_factory=MixSettings)

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("probe_size", 1)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"trainer.{name} is {getattr(self, name)}, wanted {least} or more"
                )
        for name in ("lr", "weight_decay", "momentum", "min_lr", "warmup_epochs"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"trainer.{name} is {getattr(self, name)}, wanted 0 or more")
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(
                f"trainer.label_smoothing is {self.label_smoothing}, wanted 0 to below 1"
            )


class Population:
    """k trainings of one task that share initial weights, batch order and mixing draws.

    Args:
        task: The data.
        settings: How to train.
        members: k.
        device: Where.

    Raises:
        ConfigError: If several members would meet in the optimizer.

    After ``reset``, each ``run_epoch`` plays one action per member. A member's numbers depend on
    the seed and its own actions only, not on the other members (up to float summation order).
    """

    def __init__(
        self, task: Task, settings: TrainerSettings, members: int, device: str = "cpu"
    ) -> None:
        if members > 1 and settings.opt.lower() not in ELEMENTWISE:
            raise ConfigError(
                f"trainer.opt is {settings.opt!r}, with which {members} trainings side by side "
                "would change each other's steps",
                f"train one at a time, or use one of: {', '.join(sorted(ELEMENTWISE))}",
            )
        self.task, self.settings, self.members = task, settings, members
        self._device = torch.device(device)
        self._classes = task.images.num_classes
        self._train = task.split(task.train_index, self._device)
        self._targets = as_targets(
            torch.from_numpy(task.train_labels), self._classes, settings.label_smoothing
        ).to(self._device)
        self._load_evaluation_images()
        self._static: dict[str, Tensor] = {}

    def _load_evaluation_images(self) -> None:
        """Put the probe and the validation images, in this order, into one split."""
        task = self.task
        self._probe = min(self.settings.probe_size, len(self._train))
        seen = np.concatenate([task.train_index[: self._probe], task.val_index])
        self._seen = task.split(seen, self._device)
        probe_labels = torch.from_numpy(task.train_labels[: self._probe])
        self._seen_labels = torch.cat([probe_labels, task.labels(task.val_index)]).to(self._device)

    def reset(self, seed: int) -> list[EpochMetrics]:
        """Start afresh from a seed; return the metrics of the untrained classifiers."""
        net = create_classifier(
            self.settings.model,
            num_classes=self._classes,
            shape=self.task.images.shape,
            seed=derived_seed(seed, "weights"),
        )
        self._stack: Stack = stack(net, self.members)
        # Channels last is up to twice as fast for narrow grouped convolutions, on CPU and GPU.
        self._net = self._stack.module().to(self._device)
        self._net.to(memory_format=torch.channels_last)
        self._build_optimizer()
        self._seed, self._epoch, self._updates = seed, 0, 0
        self._diverged = np.zeros(self.members, dtype=bool)
        return self._measure(_EpochLog(self.members, self._device))

    def _build_optimizer(self) -> None:
        settings = self.settings
        try:
            self._optimizer = create_optimizer_v2(
                self._net,
                opt=settings.opt,
                lr=settings.lr,
                weight_decay=settings.weight_decay,
                momentum=settings.momentum,
            )
        except ValueError as error:
            raise ConfigError(f"trainer.opt is {settings.opt!r}: {error}") from None
        scheduler = None
        if settings.sched != "plateau":  # waits for a metric, epoch by epoch
            with contextlib.suppress(ValueError):
                scheduler, _ = create_scheduler_v2(
                    self._optimizer,
                    sched=settings.sched,
                    num_epochs=settings.epochs,
                    warmup_epochs=settings.warmup_epochs,
                    warmup_prefix=False,
                    min_lr=settings.min_lr,
                    step_on_epochs=False,
                    updates_per_epoch=-(-self._trained() // settings.batch_size),
                )
        if scheduler is None:
            raise ConfigError(
                f"trainer.sched is {settings.sched!r}, wanted a timm scheduler that can step "
                "with every batch",
                "for example cosine, step or poly",
            )
        self._scheduler = scheduler

    def _trained(self) -> int:
        """Return how many images an epoch trains on: all, or all but one.

        An image alone in the last batch rests for the epoch. It would have nobody to be mixed
        with, and batch norm no statistics where its map is a single pixel.
        """
        n = len(self._train)
        return n - (self.settings.batch_size > 1 and n % self.settings.batch_size == 1)

    def run_epoch(self, actions: Sequence[MixAction]) -> list[EpochMetrics]:
        """Train every member for one epoch under its action.

        Raises:
            ConfigError: If the budget is spent, or there is not one action for each member.
        """
        if len(actions) != self.members:
            raise ConfigError(f"{len(actions)} actions for {self.members} members, wanted one each")
        if self._epoch >= self.settings.epochs:
            raise ConfigError(
                f"epoch {self._epoch + 1} is beyond the budget of {self.settings.epochs} epochs",
                "reset the trainer, or raise trainer.epochs",
            )
        log = _EpochLog(self.members, self._device)
        plays = self._plays([action.resolved() for action in actions])
        # Nets with dropout draw from the global generator: lend them a private one.
        with borrowed_global_rng(derived_seed(self._seed, "dropout", self._epoch)):
            self._net.train()
            for images, targets in self._mixed_batches(plays, log):
                self._step(images, targets, log)
        log.gradient_squares = self._stack.member_squares()
        self._epoch += 1
        return self._measure(log)

    def _plays(self, actions: Sequence[MixAction]) -> list[_Play]:
        """Sort the members by what can be mixed in one call.

        Every play draws from its own copy of the epoch's generator: members with equal actions
        see equal batches, and nobody's draws depend on what the others do.
        """
        players: dict[tuple[MixAction, int], list[int]] = {}
        for member, action in enumerate(actions):
            # Saliency of the classifier differs from member to member, so each mixes alone.
            alone = member if _needs_classifier(action) else -1
            players.setdefault((action, alone), []).append(member)
        return [
            _Play(action, members, generator(self._seed, "mix", self._epoch))
            for (action, _), members in players.items()
        ]

    def _mixed_batches(
        self, plays: Sequence[_Play], log: _EpochLog
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield mixed images (b, k, c, h, w) and targets (b, k, classes), batch by batch.

        What does not need the classifier is mixed for many batches in one call. How many depends
        on the images alone, because the draws depend on it: not on what other members play.
        """
        n, size = len(self._train), self.settings.batch_size
        shuffled = generator(self._seed, "order", self._epoch).permutation(n)
        order = torch.from_numpy(shuffled[: self._trained()])
        piece = max(1, images_a_piece(self.task.images.shape) // size) * size
        asking = [play for play in plays if _needs_classifier(play.action)]
        others = [play for play in plays if not _needs_classifier(play.action)]
        for index in order.to(self._device).split(piece):
            own, own_targets = self._train[index], self._targets[index]
            images = own.new_empty((len(index), self.members, *own.shape[1:]))
            targets = own_targets.new_empty((len(index), self.members, self._classes))
            for play in others:
                saliency = self._static_saliency(play.action, index, own)
                self._mix(play, own, own_targets, saliency, images, targets, log)
            for start in range(0, len(index), size):
                batch = slice(start, start + size)
                maps = self._classifier_saliency(own[batch], own_targets[batch], asking, log)
                for play in asking:
                    saliency = maps[play.members[0]]
                    self._mix(
                        play,
                        own[batch],
                        own_targets[batch],
                        saliency,
                        images[batch],
                        targets[batch],
                        log,
                    )
                yield images[batch], targets[batch]

    def _mix(
        self,
        play: _Play,
        own: Tensor,
        own_targets: Tensor,
        saliency: Tensor | None,
        images: Tensor,
        targets: Tensor,
        log: _EpochLog,
    ) -> None:
        """Mix once and write the result into ``images`` and ``targets`` of all who play it."""
        mixed = mix_batch(
            own,
            own_targets,
            play.action,
            num_classes=self._classes,
            rng=play.rng,
            saliency=saliency,
            settings=self.settings.mix,
            batch_size=self.settings.batch_size,
        )
        for member in play.members:
            images[:, member], targets[:, member] = mixed.images, mixed.targets
        log.partner_share[play.members] += (1 - mixed.lam).sum()

    def _static_saliency(self, action: MixAction, index: Tensor, own: Tensor) -> Tensor | None:
        """Look up maps that depend on the image only; each is computed once a task."""
        if action.saliency == OFF or _needs_classifier(action):
            return None
        provider, images = SALIENCY[action.saliency], self._train.resident
        if images is None:  # nor would the maps fit
            return provider(own, self._targets[index], nn.Identity())
        if action.saliency not in self._static:
            self._static[action.saliency] = provider(images, self._targets, nn.Identity())
        return self._static[action.saliency][index]

    def _classifier_saliency(
        self, images: Tensor, targets: Tensor, plays: Sequence[_Play], log: _EpochLog
    ) -> dict[int, Tensor]:
        """Compute the maps (b, h, w) of the members whose action asks the classifier for them."""
        maps: dict[int, Tensor] = {}
        by_provider: dict[str, list[int]] = {}
        for play in plays:
            by_provider.setdefault(play.action.saliency, []).extend(play.members)
        for name, members in by_provider.items():
            provider = SALIENCY.entry(name)
            b, k = len(images), len(members)
            flat = images[:, None].expand(-1, k, *images.shape[1:]).flatten(0, 1)
            flat_targets = targets[:, None].expand(-1, k, -1).flatten(0, 1)

            def classify(x: Tensor, members: list[int] = members) -> Tensor:
                return self._stack.only(members, x.unflatten(0, (-1, len(members)))).flatten(0, 1)

            # A look at the images must leave no trace: not in the statistics, not in the dropout.
            with frozen_running_statistics(self._net), same_draws_afterwards(self._device):
                found = provider.value(flat, flat_targets, classify).unflatten(0, (b, k))
            maps.update({member: found[:, i] for i, member in enumerate(members)})
            log.count(members, b, *cast(tuple[int, int], provider.tags["passes"]))
        return maps

    def _step(self, images: Tensor, targets: Tensor, log: _EpochLog) -> None:
        """Take one optimizer step for every member."""
        b, k = targets.shape[:2]
        logits = self._stack(images)
        each = F.cross_entropy(logits.flatten(0, 1), targets.flatten(0, 1), reduction="none")
        losses = each.view(b, k).mean(0)
        self._optimizer.zero_grad()
        losses.sum().backward()
        self._optimizer.step()
        self._updates += 1
        self._scheduler.step_update(self._updates)
        log.mixed_loss += losses.detach() * b
        log.images += b
        log.count(range(k), b, 1, 1)

    @torch.no_grad()
    def logits(self, images: Tensor | Split) -> Tensor:
        """Return every member's logits, (b, k, classes), in evaluation mode."""
        # Larger pieces cost several times more per image on a CPU: their temporaries are mapped
        # and unmapped at every layer.
        chunk = 128 if self._device.type == "cpu" else 2048
        self._net.eval()
        parts = [
            self._stack(part.to(self._device)[:, None].expand(-1, self.members, *part.shape[1:]))
            for part in images.split(chunk)
        ]
        return torch.cat(parts)

    def _measure(self, log: _EpochLog) -> list[EpochMetrics]:
        """Measure probe and validation split in one pass and make the records."""
        logits = self.logits(self._seen)
        log.count(range(self.members), len(self._seen), 1, 0)
        losses = sample_losses(logits, self._seen_labels)
        probe, val = slice(None, self._probe), slice(self._probe, None)
        columns = {
            "train_loss": losses[probe].mean(0),
            "train_accuracy": accuracies(logits[probe], self._seen_labels[probe]),
            "val_loss": losses[val].mean(0),
            "val_accuracy": accuracies(logits[val], self._seen_labels[val]),
            "val_confidence": confidences(logits[val]),
            **log.columns(),
        }
        rows = torch.stack([column.double() for column in columns.values()], 1).cpu().numpy()
        self._diverged |= ~np.isfinite(rows).all(1)
        return [
            self._record(dict(zip(columns, row, strict=True)), m, log) for m, row in enumerate(rows)
        ]

    def _record(self, values: dict[str, float], member: int, log: _EpochLog) -> EpochMetrics:
        if self._diverged[member]:
            values = {name: 0.0 for name in values} | {
                name: LOSS_CAP for name in ("train_loss", "val_loss", "mixed_loss")
            }
        return EpochMetrics(
            epoch=self._epoch,
            lr=float(self._optimizer.param_groups[0]["lr"]),
            forward_passes=int(log.forward[member]),
            backward_passes=int(log.backward[member]),
            diverged=bool(self._diverged[member]),
            **{
                name: min(float(v), LOSS_CAP) if "loss" in name else float(v)
                for name, v in values.items()
            },
        )

    def snapshot(self) -> Snapshot:
        """Return a copy of everything that the next epoch depends on.

        Batch order and mixing draws are functions of seed and epoch, so numbers and weights are
        all there is.
        """
        return {
            "seed": self._seed,
            "epoch": self._epoch,
            "updates": self._updates,
            "diverged": self._diverged.copy(),
            "classifiers": copy.deepcopy(self._net.state_dict()),
            "optimizer": copy.deepcopy(self._optimizer.state_dict()),
        }

    def restore(self, snapshot: Snapshot) -> None:
        """Continue from a snapshot of a population of the same task, settings and size."""
        self.reset(snapshot["seed"])
        self._net.load_state_dict(snapshot["classifiers"])
        self._optimizer.load_state_dict(copy.deepcopy(snapshot["optimizer"]))
        self._epoch, self._updates = snapshot["epoch"], snapshot["updates"]
        self._diverged = snapshot["diverged"].copy()
        self._scheduler.step_update(self._updates)


class Trainer:
    """One training: a population of one, whose records and actions come singly.

    Args:
        task: The data.
        settings: How to train.
        device: Where.
    """

    def __init__(self, task: Task, settings: TrainerSettings, device: str = "cpu") -> None:
        self.population = Population(task, settings, 1, device)

    def reset(self, seed: int) -> EpochMetrics:
        """Start afresh from a seed; return the metrics of the untrained classifier."""
        return self.population.reset(seed)[0]

    def run_epoch(self, action: MixAction) -> EpochMetrics:
        """Train for one epoch under an action."""
        return self.population.run_epoch([action])[0]

    def snapshot(self) -> Snapshot:
        """Return a copy of everything that the next epoch depends on."""
        return self.population.snapshot()

    def restore(self, snapshot: Snapshot) -> None:
        """Continue from a snapshot of a trainer of the same task and settings."""
        self.population.restore(snapshot)


@dataclass
class _Play:
    """Members whose batches come from one call of the mix."""

    action: MixAction
    members: list[int]
    rng: np.random.Generator


class _EpochLog:
    """What an epoch adds up, per member; tensors stay on the device until it ends."""

    def __init__(self, members: int, device: torch.device) -> None:
        self.mixed_loss = torch.zeros(members, device=device)
        self.partner_share = torch.zeros(members, device=device)
        self.gradient_squares = torch.zeros(members, device=device)
        self.images = 0
        self.forward = np.zeros(members, dtype=np.int64)
        self.backward = np.zeros(members, dtype=np.int64)

    def count(self, members: Sequence[int], samples: int, forward: int, backward: int) -> None:
        """Count passes over samples."""
        self.forward[list(members)] += samples * forward
        self.backward[list(members)] += samples * backward

    def columns(self) -> dict[str, Tensor]:
        """Return the means over the epoch, (k,) each."""
        images = max(self.images, 1)
        return {
            "mixed_loss": self.mixed_loss / images,
            "partner_share": self.partner_share / images,
            "gradient_norm": self.gradient_squares.sqrt(),
        }


def _needs_classifier(action: MixAction) -> bool:
    return action.saliency != OFF and bool(SALIENCY.entry(action.saliency).tags["needs_classifier"])
