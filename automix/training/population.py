"""Many training runs in one process, stacked as far as they can be."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
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

Place = tuple[StackedEnsemble, int]
"""The stack that a member is in, and its slot there."""

WITHOUT_STATE = frozenset({"kron", "kronc", "kronw"})
"""timm optimizers with a generator of their own, which no state dict holds."""

SHARE = 0.5
"""Of the free memory, what one stack may take."""

BESIDE_ACTIVATIONS = 4
"""Copies of the weights that a training holds: themselves, gradients, two of the optimizer."""

CACHE = 10 * 2**20
"""Bytes of activations that a stack on a CPU may have. Larger ones hold more and were not faster
(results/tried.md)."""


class Population:
    """k training runs, each with its own task, seed, weights, optimizer state and actions.

    Members of the same form (shape and number of images, epochs done) are stacked, as many at a
    time as memory allows. Those that share task and seed have equal initial weights, batches and
    mixing draws, so that they differ in their actions only.

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
                f"trainer.opt is {settings.opt!r}, with which {len(tasks)} training runs side by "
                "side would change each other's steps",
                f"train one at a time, or use one of: {', '.join(sorted(ELEMENTWISE))}",
            )
        if stack_limit < 0:
            raise ConfigError(f"stack_limit is {stack_limit}, wanted 0 (find out) or more")
        self.settings, self.members = settings, len(tasks)
        self._device, self._stack_limit = torch.device(device), stack_limit
        self._data: list[TaskTensors] = []
        self._assign(range(len(tasks)), tasks)
        self._places: list[Place] = []

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

    # Training ------------------------------------------------------------------------------------

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
        places.update(self._stack({m: states[m]["seed"] for m in moved}, states))
        fresh = self._stack(dict(zip(chosen, seeds, strict=True)), {})
        self._places = [place for _, place in sorted((places | fresh).items())]
        records = {ensemble: ensemble.measure() for ensemble in dict(fresh.values())}
        return [records[ensemble][slot] for ensemble, slot in (fresh[m] for m in chosen)]

    def _chosen(self, members: Sequence[int] | None) -> list[int]:
        chosen = list(range(self.members)) if members is None else list(members)
        if not set(chosen) <= set(range(self.members)):
            raise ConfigError(f"members are {chosen}, wanted numbers from 0 to {self.members - 1}")
        return chosen

    def _begun(self) -> list[Place]:
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

        Returns:
            A record of each, which covers all epochs since the last records.

        Raises:
            ConfigError: If a budget is too small, or there is not one action for each member.
        """
        self.train_epoch(actions, epochs)
        records: dict[int, EpochMetrics] = {}
        for ensemble, members in self._ensembles():
            records.update(zip(members, ensemble.measured(), strict=True))
        return [records[member] for member in range(self.members)]

    def train_epoch(self, actions: Sequence[MixAction], epochs: int = 1) -> None:
        """Train as ``run_epoch`` does, and leave the measuring to the next call of it.

        No state can be taken until then: what is to be recorded of these epochs is not in one.
        """
        if len(actions) != self.members:
            raise ConfigError(f"{len(actions)} actions for {self.members} members, wanted one each")
        spent = max(ensemble.epoch for ensemble, _ in self._begun())
        if spent + epochs > self.settings.epochs:
            raise ConfigError(
                f"epoch {spent + epochs} is beyond the budget of {self.settings.epochs} epochs",
                "reset the trainer, or raise trainer.epochs",
            )
        for ensemble, members in self._ensembles():
            ensemble.run_epochs([actions[member] for member in members], epochs)

    def logits(self, images: Tensor | Split, members: Sequence[int] | None = None) -> Tensor:
        """Return logits, (b, k, classes), of all or some members in evaluation mode.

        Args:
            images: (b, c, h, w), scaled as in the members' task.
            members: Which; default all.
        """
        places = [self._begun()[member] for member in self._chosen(members)]
        found = {ensemble: ensemble.logits(images) for ensemble in dict(places)}
        return torch.stack([found[ensemble][:, slot] for ensemble, slot in places], 1)

    def alone(self) -> StackedEnsemble:
        """Return the stack of the only member, to be trained batch by batch.

        Raises:
            ConfigError: If there are more members, or before ``reset``.
        """
        if self.members != 1:
            raise ConfigError(f"{self.members} members cannot be taken batch by batch, wanted one")
        return self._begun()[0][0]

    # State ---------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of everything that the next epoch depends on, member by member.

        Returns:
            ``{"members": [...]}``, a ``MemberState`` for each, with its ``form``: what a training
            run must be like to go on from it.

        Raises:
            ConfigError: Before ``reset``, or if the optimizer keeps a part of it to itself.
        """
        if self.settings.opt.lower().removeprefix("lookahead_") in WITHOUT_STATE:
            raise ConfigError(
                f"trainer.opt is {self.settings.opt!r}, which draws numbers of its own, so that no "
                "state of a training run can be complete",
                "use another optimizer where training runs are saved",
            )
        return {"members": [self._state(member) for member in range(self.members)]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a copy of the state of a population of the same tasks and settings.

        Raises:
            ConfigError: If it is of another one; this one is then as it was.
        """
        states = dict(enumerate(state.get("members", ())))
        if len(states) != self.members:
            raise ConfigError(
                f"the state is of {len(states)} members, this population has {self.members}"
            )
        for member, own in states.items():
            self._check(member, own["form"])
        places = self._stack({member: own["seed"] for member, own in states.items()}, states)
        self._places = [places[member] for member in range(self.members)]

    def _check(self, member: int, form: dict[str, Any]) -> None:
        """Refuse a state from which a member cannot go on."""
        for what, own in self._form(member).items():
            if form.get(what) != own:
                raise ConfigError(
                    f"member {member} of the state has {what} {form.get(what)}, "
                    f"of this population {own}",
                    "load it in a population of the same tasks and settings",
                )

    def _form(self, member: int) -> dict[str, Any]:
        """Return what a state must have in common with the member that goes on from it."""
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
        ensemble, slot = self._begun()[member]
        if ensemble.unmeasured:
            raise ConfigError(
                f"member {member} has trained epochs that were not measured, and no state holds "
                "what their record will say",
                "call run_epoch before state_dict",
            )
        return {**ensemble.state_dict(slot), "form": self._form(member)}

    # Stacking ------------------------------------------------------------------------------------

    def _ensembles(self) -> list[tuple[StackedEnsemble, list[int]]]:
        """Return the stacks and their members, in the order of the slots."""
        found: dict[StackedEnsemble, dict[int, int]] = {}
        for member, (ensemble, slot) in enumerate(self._places):
            found.setdefault(ensemble, {})[slot] = member
        return [(ensemble, [slots[s] for s in sorted(slots)]) for ensemble, slots in found.items()]

    def _stack(
        self, seeds: Mapping[int, int], states: Mapping[int, MemberState]
    ) -> dict[int, Place]:
        """Stack members, fresh from their seeds or from states; return where each of them is."""
        members = {m: Member(self._data[m], seed) for m, seed in seeds.items()}
        made: dict[tuple[object, ...], nn.Module] = {}
        for one in members.values():
            if (one.data.form, one.seed) not in made:
                made[one.data.form, one.seed] = self._net(one)
        nets = {m: made[one.data.form, one.seed] for m, one in members.items()}
        places: dict[int, Place] = {}
        for group in _alike(members, nets, states):
            size = self._stack_size(group, nets)
            for start in range(0, len(group), size):
                part = group[start : start + size]
                stacked = [members[m] for m in part], [nets[m] for m in part]
                ensemble = StackedEnsemble(*stacked, self.settings, self._device)
                if states:
                    ensemble.load_state_dict([states[m] for m in part])
                places |= {m: (ensemble, slot) for slot, m in enumerate(part)}
        return places

    def _net(self, member: Member) -> nn.Module:
        return create_classifier(
            self.settings.model,
            num_classes=member.data.classes,
            shape=member.data.task.images.shape,
            seed=derived_seed(member.seed, "weights"),
        )

    def _stack_size(self, group: Sequence[int], nets: Mapping[int, nn.Module]) -> int:
        """Return the size of a group's stacks: as few as there must be, and about equal.

        A small rest would be slow. A single member needs no look at the net, which takes long for
        large ones.
        """
        if len(group) == 1:
            return 1
        net, data = nets[group[0]], self._data[group[0]]
        limit = self._stack_limit or largest_stack(net, data, self.settings, self._device)
        return -(-len(group) // -(-len(group) // limit))


def _alike(
    members: Mapping[int, Member],
    nets: Mapping[int, nn.Module],
    states: Mapping[int, MemberState],
) -> list[list[int]]:
    """Sort members into groups that can be stacked."""
    alike: dict[tuple[object, ...], list[int]] = {}
    for m, member in members.items():
        epoch = states[m]["epoch"] if m in states else 0
        # What cannot be stacked gains nothing from company, and draws dropout by its own seed.
        apart = () if can_group(nets[m]) else (id(member.data), member.seed)
        alike.setdefault((member.data.form, epoch, *apart), []).append(m)
    for group in alike.values():
        # Those that share batches become neighbours.
        batches = [(id(members[m].data), members[m].seed) for m in group]
        order = dict(zip(group, map(batches.index, batches), strict=True))
        group.sort(key=order.__getitem__)
    return list(alike.values())


class Trainer:
    """One training run: a population of one, whose records and actions come singly.

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

    def run_epoch(self, action: MixAction, epochs: int = 1) -> EpochMetrics:
        """Train for one epoch under an action, or for some, which are measured together."""
        return self.population.run_epoch([action], epochs)[0]

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of everything that the next epoch depends on."""
        return self.population.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a copy of the state of a trainer of the same task and settings."""
        self.population.load_state_dict(state)


def largest_stack(
    net: nn.Module, data: TaskTensors, settings: TrainerSettings, device: torch.device
) -> int:
    """Return how many members of a form one stack may have, at least 1.

    On a CPU this is a property of net and batch, unless memory is short: results must not hang on
    what else the machine does, and the size of a stack can move last digits.
    """
    activations = settings.batch_size * activation_bytes(net, data.task.images.shape)
    weights = sum(p.numel() * p.element_size() for p in net.parameters())
    # The forward pass keeps its activations, and the backward pass makes their gradients.
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
