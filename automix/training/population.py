"""Many trainings in one process, stacked as far as they can be."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from automix.core.errors import ConfigError
from automix.core.seeding import derived_seed
from automix.core.settings import names_that_affect
from automix.data.image_set import Split
from automix.data.memory import free_memory
from automix.data.tasks import Task
from automix.mixing.actions import MixAction
from automix.nets.create import create_classifier
from automix.nets.stacking import can_group
from automix.training.batches.members import Member
from automix.training.batches.task_tensors import TaskTensors
from automix.training.ensemble import MemberState, StackedEnsemble
from automix.training.metrics import EpochMetrics
from automix.training.settings import ELEMENTWISE, TrainerSettings

Nets = dict[tuple[object, ...], nn.Module]
"""Initial nets, by form of the training and seed."""

Snapshot = dict[str, Any]
"""``{"members": [...]}``, a ``MemberState`` for each, with its ``form``: what a training must be
like to go on from it."""

UNTOLD = frozenset({"kron", "kronc", "kronw"})
"""timm optimizers with a generator of their own, which no snapshot holds."""

SHARE = 0.5
"""Of the free memory, what one stack may take."""

BESIDE_ACTIVATIONS = 4
"""Copies of the weights that a training holds: themselves, gradients, two of the optimizer."""

CACHE = 10 * 2**20
"""Bytes of activations that a stack on a CPU may have. Larger ones hold more and were not faster
(results/tried.md)."""


class Population:
    """k trainings, each with its own task, seed, weights, optimizer state and actions.

    Members whose trainings have the same form (shape and number of images, epochs done) are
    stacked, as many at a time as memory allows. Those that share task and seed have equal initial
    weights, batches and mixing draws, so that they differ in their actions only.

    Args:
        tasks: The data of each member; the same object where members share a task.
        settings: How to train, all alike.
        device: Where.
        stack_limit: The most members of a stack; 0 finds out what memory allows.

    Raises:
        ConfigError: If members would meet in the optimizer.

    A member's numbers depend on its task, seed and actions only, not on the other members (up to
    float summation order). After ``reset``, each ``run_epoch`` plays one action per member.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        settings: TrainerSettings,
        device: str = "cpu",
        stack_limit: int = 0,
    ) -> None:
        if len(tasks) > 1 and settings.opt.lower() not in ELEMENTWISE:
            raise ConfigError(
                f"trainer.opt is {settings.opt!r}, with which {len(tasks)} trainings side by side "
                "would change each other's steps",
                f"train one at a time, or use one of: {', '.join(sorted(ELEMENTWISE))}",
            )
        if stack_limit < 0:
            raise ConfigError(f"stack_limit is {stack_limit}, wanted 0 (find out) or more")
        self.settings, self.members = settings, len(tasks)
        self._device, self._stack_limit = torch.device(device), stack_limit
        self._data: list[TaskTensors] = []
        self._assign(range(len(tasks)), tasks)
        self._places: list[tuple[StackedEnsemble, int]] = []

    @property
    def tasks(self) -> list[Task]:
        """The task of each member."""
        return [data.task for data in self._data]

    def _assign(self, members: Sequence[int], tasks: Sequence[Task]) -> None:
        """Give members their tasks; what is on the device already is used again."""
        known = {id(data.task): data for data in self._data}
        data = self._data or [None] * self.members  # type: ignore[list-item]
        for member, task in zip(members, tasks, strict=True):
            if id(task) not in known:
                known[id(task)] = TaskTensors(task, self.settings, self._device)
            data[member] = known[id(task)]
        self._data = data

    # Playing -------------------------------------------------------------------------------------

    def reset(
        self,
        seeds: Sequence[int],
        members: Sequence[int] | None = None,
        tasks: Sequence[Task] | None = None,
    ) -> list[EpochMetrics]:
        """Start members afresh; return the metrics of their untrained classifiers.

        Args:
            seeds: One for each of them: draws weights, batches and mixes.
            members: Which; default all. The others go on undisturbed.
            tasks: New tasks for them; default the same as before.

        Raises:
            ConfigError: If there is not one seed and task for each, or if some members are started
                before all have been.
        """
        chosen = self._chosen(members)
        if len(set(chosen)) < len(chosen):
            raise ConfigError(f"members are {chosen}, wanted each of them once")
        for what, given in (("seeds", seeds), ("tasks", tasks)):
            if given is not None and len(given) != len(chosen):
                raise ConfigError(f"{len(given)} {what} for {len(chosen)} members, wanted one each")
        others = sorted(set(range(self.members)) - set(chosen))
        if others and not self._places:
            raise ConfigError("some members are reset before all of them", "reset() all first")
        moved = [m for m in others if self._meets(m, chosen)]
        states = {m: self._state(m) for m in moved}
        if tasks is not None:
            self._assign(chosen, tasks)
        places = dict(enumerate(self._places))
        places.update(self._seat(moved, [states[m]["seed"] for m in moved], states))
        fresh = self._seat(chosen, seeds, {})
        self._places = [place for _, place in sorted((places | fresh).items())]
        cohorts = {id(cohort): cohort for cohort, _ in fresh.values()}
        records = {key: cohort.measure() for key, cohort in cohorts.items()}
        return [records[id(cohort)][slot] for cohort, slot in (fresh[m] for m in chosen)]

    def _chosen(self, members: Sequence[int] | None) -> list[int]:
        chosen = list(range(self.members)) if members is None else list(members)
        if not set(chosen) <= set(range(self.members)):
            raise ConfigError(f"members are {chosen}, wanted numbers from 0 to {self.members - 1}")
        return chosen

    def _begun(self) -> list[tuple[StackedEnsemble, int]]:
        """Return where each member is."""
        if not self._places:
            raise ConfigError("nothing can be asked before reset", "call reset(seeds) first")
        return self._places

    def _meets(self, member: int, chosen: Sequence[int]) -> bool:
        """Return whether a member is in one stack with some of the chosen."""
        return any(self._places[member][0] is self._places[other][0] for other in chosen)

    def run_epoch(self, actions: Sequence[MixAction], epochs: int = 1) -> list[EpochMetrics]:
        """Train every member for one epoch under its action, or for some.

        Args:
            actions: One for each member.
            epochs: How many under the same action. They are measured together, after the last,
                which saves time: measuring can cost as much as training does.

        Raises:
            ConfigError: If a budget is too small, or there is not one action for each member.
        """
        if len(actions) != self.members:
            raise ConfigError(f"{len(actions)} actions for {self.members} members, wanted one each")
        spent = max(cohort.epoch for cohort, _ in self._begun())
        if spent + epochs > self.settings.epochs:
            raise ConfigError(
                f"epoch {spent + epochs} is beyond the budget of {self.settings.epochs} epochs",
                "reset the trainer, or raise trainer.epochs",
            )
        records: dict[int, EpochMetrics] = {}
        for cohort, seats in self._cohorts():
            played = [actions[member] for member in seats]
            records.update(zip(seats, cohort.run_epochs(played, epochs), strict=True))
        return [records[member] for member in range(self.members)]

    def logits(self, images: Tensor | Split, members: Sequence[int] | None = None) -> Tensor:
        """Return logits, (b, k, classes), of all or some members in evaluation mode.

        Args:
            images: (b, c, h, w), scaled as in the members' task.
            members: Which; default all.
        """
        places = [self._begun()[member] for member in self._chosen(members)]
        wanted = {id(cohort): cohort for cohort, _ in places}
        found = {key: cohort.logits(images) for key, cohort in wanted.items()}
        return torch.stack([found[id(cohort)][:, slot] for cohort, slot in places], 1)

    def alone(self) -> StackedEnsemble:
        """Return the training of the only member, for who takes it batch by batch.

        Raises:
            ConfigError: If there are more members, or before ``reset``.
        """
        if self.members != 1:
            raise ConfigError(f"{self.members} members cannot be taken batch by batch, wanted one")
        return self._begun()[0][0]

    # State ---------------------------------------------------------------------------------------

    def state_dict(self) -> Snapshot:
        """Return a copy of everything that the next epoch depends on, member by member.

        Raises:
            ConfigError: Before ``reset``, or if the optimizer keeps a part of it to itself.
        """
        if self.settings.opt.lower().removeprefix("lookahead_") in UNTOLD:
            raise ConfigError(
                f"trainer.opt is {self.settings.opt!r}, which draws numbers of its own, so that no "
                "snapshot of a training can be complete",
                "use another optimizer for trainings that others go on from",
            )
        return {"members": [self._state(member) for member in range(self.members)]}

    def load_state_dict(self, snapshot: Snapshot) -> None:
        """Continue from a snapshot of a population of the same tasks and settings.

        Raises:
            ConfigError: If it is of other trainings; these are then as they were.
        """
        states = dict(enumerate(snapshot.get("members", ())))
        if len(states) != self.members:
            raise ConfigError(
                f"the snapshot is of {len(states)} members, this population has {self.members}"
            )
        for member, state in states.items():
            self._check(member, state["form"])
        seeds = [state["seed"] for state in states.values()]
        places = self._seat(range(self.members), seeds, states)
        self._places = [places[member] for member in range(self.members)]

    def _check(self, member: int, form: dict[str, Any]) -> None:
        """Refuse the state of a training from which a member cannot go on."""
        for what, own in self._form(member).items():
            if form.get(what) != own:
                raise ConfigError(
                    f"member {member} of the snapshot has {what} {form.get(what)}, "
                    f"of this population {own}",
                    "restore it in trainings of the same tasks and settings",
                )

    def _form(self, member: int) -> dict[str, Any]:
        """Return what a state must have in common with a training that goes on from it."""
        shape = names_that_affect(TrainerSettings, "shape")
        settings = {f"trainer.{name}": getattr(self.settings, name) for name in shape}
        data = self._data[member]
        return {
            **settings,
            "image shape": list(data.task.images.shape),
            "classes": data.classes,
            "training images": data.trained,
            "measured images": len(data.seen),
        }

    def fork(self, donors: Sequence[int]) -> None:
        """Let every member go on from the state of its donor, which may be itself.

        Raises:
            ConfigError: If there is not one donor for each member.
        """
        if len(donors) != self.members:
            raise ConfigError(f"{len(donors)} donors for {self.members} members, wanted one each")
        self.load_state_dict({"members": [self._state(donor) for donor in self._chosen(donors)]})

    def _state(self, member: int) -> MemberState:
        cohort, slot = self._begun()[member]
        return {**cohort.state(slot), "form": self._form(member)}

    # Stacking ------------------------------------------------------------------------------------

    def _cohorts(self) -> list[tuple[StackedEnsemble, list[int]]]:
        """Return the stacks and who sits in them, in the order of the seats."""
        seats: dict[int, tuple[StackedEnsemble, dict[int, int]]] = {}
        for member, (cohort, slot) in enumerate(self._places):
            seats.setdefault(id(cohort), (cohort, {}))[1][slot] = member
        return [(cohort, [who[s] for s in sorted(who)]) for cohort, who in seats.values()]

    def _seat(
        self, members: Sequence[int], seeds: Sequence[int], states: dict[int, MemberState]
    ) -> dict[int, tuple[StackedEnsemble, int]]:
        """Stack members, fresh or from their states; return where each of them is."""
        who = list(zip(members, seeds, strict=True))
        nets: Nets = {}
        for member, seed in who:
            data = self._data[member]
            if (data.form, seed) not in nets:
                nets[data.form, seed] = self._net(data, seed)
        places = {}
        for group in self._alike(who, nets, states):
            size = self._stack_size(group, nets)
            for start in range(0, len(group), size):
                part = group[start : start + size]
                cohort = self._cohort(part, nets, states)
                places.update({m: (cohort, slot) for slot, (m, _) in enumerate(part)})
        return places

    def _alike(
        self, who: Sequence[tuple[int, int]], nets: Nets, states: dict[int, MemberState]
    ) -> list[list[tuple[int, int]]]:
        """Sort members and their seeds into groups that can be stacked."""
        alike: dict[tuple[object, ...], list[tuple[int, int]]] = {}
        for member, seed in who:
            data, state = self._data[member], states.get(member)
            epoch = state["epoch"] if state else 0
            # What cannot be stacked gains nothing from company, and draws dropout by its own seed.
            apart = () if can_group(nets[data.form, seed]) else (id(data), seed)
            alike.setdefault((data.form, epoch, *apart), []).append((member, seed))
        for group in alike.values():
            # Those who share batches become neighbours.
            order = list(dict.fromkeys((id(self._data[m]), seed) for m, seed in group))
            group.sort(key=lambda one: order.index((id(self._data[one[0]]), one[1])))
        return list(alike.values())

    def _stack_size(self, group: Sequence[tuple[int, int]], nets: Nets) -> int:
        """Return the size of a group's stacks: as few as there must be, and about equal.

        A small rest would be slow. One alone needs no look at the net, which large nets feel.
        """
        if len(group) == 1:
            return 1
        member, seed = group[0]
        data = self._data[member]
        limit = self._stack_limit or largest_stack(
            nets[data.form, seed], data, self.settings, self._device
        )
        return -(-len(group) // -(-len(group) // limit))

    def _net(self, data: TaskTensors, seed: int) -> nn.Module:
        return create_classifier(
            self.settings.model,
            num_classes=data.classes,
            shape=data.task.images.shape,
            seed=derived_seed(seed, "weights"),
        )

    def _cohort(
        self,
        part: Sequence[tuple[int, int]],
        nets: Nets,
        states: dict[int, MemberState],
    ) -> StackedEnsemble:
        seats = [Member(self._data[member], seed) for member, seed in part]
        initial = [nets[seat.data.form, seat.seed] for seat in seats]
        cohort = StackedEnsemble(seats, initial, self.settings, self._device)
        if states:
            cohort.load_state_dict([states[member] for member, _ in part])
        return cohort


class Trainer:
    """One training: a population of one, whose records and actions come singly.

    Args:
        task: The data.
        settings: How to train.
        device: Where.
    """

    def __init__(self, task: Task, settings: TrainerSettings, device: str = "cpu") -> None:
        self.population = Population([task], settings, device)

    def reset(self, seed: int) -> EpochMetrics:
        """Start afresh from a seed; return the metrics of the untrained classifier."""
        return self.population.reset([seed])[0]

    def run_epoch(self, action: MixAction) -> EpochMetrics:
        """Train for one epoch under an action."""
        return self.population.run_epoch([action])[0]

    def state_dict(self) -> Snapshot:
        """Return a copy of everything that the next epoch depends on."""
        return self.population.state_dict()

    def load_state_dict(self, snapshot: Snapshot) -> None:
        """Continue from a snapshot of a trainer of the same task and settings."""
        self.population.load_state_dict(snapshot)


def largest_stack(
    net: nn.Module, data: TaskTensors, settings: TrainerSettings, device: torch.device
) -> int:
    """Return how many members of a form one stack may have, at least 1.

    On a CPU this is a property of net and batch, unless memory is short: results must not hang on
    what else the machine does, and the size of a stack can move last digits.
    """
    activations = settings.batch_size * activation_bytes(net, data.task.images.shape)
    weights = sum(p.numel() * p.element_size() for p in net.parameters())
    # The forward pass keeps its activations, and the backward pass makes their slopes.
    each = (BESIDE_ACTIVATIONS + settings.model_ema) * weights + 2 * activations
    if device.type == "cuda":
        return max(1, int(SHARE * free_memory(device) / each))
    return max(1, int(min(SHARE * free_memory() / each, CACHE / activations)))


def activation_bytes(net: nn.Module, shape: tuple[int, int, int]) -> int:
    """Return the bytes of all layers' outputs for one image of a shape (c, h, w)."""
    total = 0

    def add(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal total
        if isinstance(output, Tensor):
            total += output.numel() * output.element_size()

    probe = copy.deepcopy(net).eval()
    for module in probe.modules():
        if not list(module.children()):
            module.register_forward_hook(add)
    with torch.no_grad():
        probe(torch.zeros(1, *shape))
    return total
