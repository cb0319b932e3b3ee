"""Time and memory of a step under what looks into a net or trains it in its own way.

python -m benchmarks --only transformers
"""

from __future__ import annotations

import copy
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from automix.core.seeding import generator
from automix.labels import LABEL_RULES
from automix.mixes import MIXES
from automix.mixing.actions import OFF, MixAction
from automix.mixing.loss import keeps_state, loss_of, new_state
from automix.nets.create import create_classifier
from automix.saliency import SALIENCY
from automix.training.requirements import ABILITIES, requirements
from benchmarks.harness import Row, Section, interleaved, threads

SECONDS = 55.0

CLASSES = 10
PLAIN = MixAction("none", 0.0)
BY = MixAction("cutmix", 0.5)
"""What label rules and saliency are measured with."""

COLUMNS = ("model", "batch", "action", "ms", "times a plain step", "MB", "times its MB", "passes")


@dataclass(frozen=True)
class Size:
    """A training whose steps are the measure."""

    model: str
    shape: tuple[int, int, int]
    batch: int
    turns: bool
    """Whether steps are so short that many can be timed; else one is."""
    ends: float = 1.0
    """The part of all time after which it is over."""


SIZES = (
    Size("vit_digits", (1, 8, 8), 50, turns=True, ends=0.25),
    Size("deit_small_patch4_32", (3, 32, 32), 16, turns=False),
)


@dataclass(frozen=True)
class Cost:
    """What a step takes."""

    seconds: float
    peak: int
    """Bytes of tensors that were made in it and were there at once."""
    passes: tuple[int, int]
    """Forward and backward passes, those of any step among them."""


def run(seconds: float) -> Section:
    """Measure the small net in turns, and the large one once, as far as there is time."""
    rows: list[Row] = []
    notes: list[str] = []
    start = time.perf_counter()
    with threads(1):
        for size in SIZES:
            costs, missing = measured(size, start + seconds * size.ends)
            rows += rows_of(size, costs)
            if missing:
                names = ", ".join(map(str, missing))
                notes.append(f"{size.model}: no time was left for {names}.")
    return Section(
        title="Transformers",
        about="One batch sent forward and backward, one thread, without the optimizer. MB: "
        "tensors made in the step that were there at once, gradients among them; weights and what "
        "a method keeps from step to step are not. Passes: as a training counts them.",
        columns=COLUMNS,
        rows=rows,
        notes=[
            *notes,
            f"Label rules and saliency are measured with {BY}.",
            "Steps of the large net are made and timed once.",
        ],
    )


# What is measured --------------------------------------------------------------------------------


def forms(net: nn.Module) -> list[MixAction]:
    """Return what a net can play, the plain step first.

    Every method that makes its own steps or looks into the net, every label rule, and every
    saliency that looks into the net.
    """
    mixes = [mix for mix in MIXES.entries() if mix.info.step or mix.info.requires]
    looks = [one for one in SALIENCY.entries() if one.info.requires and one.info.asks is None]
    found = [
        PLAIN,
        *(MixAction(mix.name, 0.5) for mix in mixes),
        *(replace(BY, saliency=_maps_for(rule), label_rule=rule) for rule in LABEL_RULES),
        *(replace(BY, saliency=provider.name) for provider in looks),
    ]
    return [action for action in found if playable(net, action)]


def _maps_for(rule: str) -> str:
    return "gradient" if LABEL_RULES.info(rule).needs_maps else OFF


def playable(net: nn.Module, action: MixAction) -> bool:
    """Return whether a net offers what an action needs."""
    return all(ABILITIES[ability](net) for _, ability in requirements(action, "area"))


class Training:
    """Makes the same step again and again; a rate of 0 keeps the net as it is.

    Args:
        size: Of the training.
        net: The classifier, in training mode.
        action: What to play.
    """

    def __init__(self, size: Size, net: nn.Module, action: MixAction) -> None:
        draws = torch.Generator().manual_seed(0)
        self._images = torch.randn(size.batch, *size.shape, generator=draws)
        self._labels = torch.arange(size.batch) % CLASSES
        self._net, self._action = net, action
        self._state = None
        if keeps_state(action):
            self._state = new_state(
                *(copy.deepcopy(net), action.method),
                classes=CLASSES,
                shape=size.shape,
                steps=1000,
                seed=0,
            )

    def __call__(self) -> tuple[int, int]:
        """Make a step; return the passes that it took."""
        self._net.zero_grad()
        told = loss_of(
            *(self._net, self._images, self._labels, self._action),
            num_classes=CLASSES,
            rng=generator(0, "mix"),
            state=self._state,
        )
        told.losses.mean().backward()
        if self._state is not None:
            self._state.follow(self._net.state_dict())
        maps = _passes_of_maps(self._action)
        return 1 + told.passes[0] + maps[0], 1 + told.passes[1] + maps[1]


def _passes_of_maps(action: MixAction) -> tuple[int, int]:
    if action.saliency == OFF:
        return 0, 0
    return SALIENCY.info(action.saliency).passes


# Measuring ---------------------------------------------------------------------------------------


def measured(size: Size, until: float) -> tuple[dict[MixAction, Cost], list[MixAction]]:
    """Return what steps take, and what no time was left for.

    Args:
        size: Of the training.
        until: Seconds on the clock, after which no new step is begun.
    """
    net = create_classifier(size.model, num_classes=CLASSES, shape=size.shape, seed=0).train()
    actions, costs = forms(net), dict[MixAction, Cost]()
    trainings: dict[MixAction, Training] = {}
    Training(size, net, PLAIN)()  # what is loaded late is loaded now
    for action in actions:
        if costs and time.perf_counter() > until:
            break
        trainings[action] = Training(size, net, action)
        costs[action] = cost_of(trainings[action])
        if not size.turns:
            del trainings[action]  # and what it keeps
    if trainings:
        took = interleaved(trainings, until - time.perf_counter(), at_least=2)
        costs = {action: replace(cost, seconds=took[action]) for action, cost in costs.items()}
    return costs, [action for action in actions if action not in costs]


def cost_of(step: Callable[[], tuple[int, int]]) -> Cost:
    """Make one step and return what it took."""
    with Alive() as alive:
        start = time.perf_counter()
        passes = step()
        took = time.perf_counter() - start
    return Cost(took, alive.peak, passes)


class Alive(TorchDispatchMode):
    """Counts the bytes of the tensors that are made inside the block and are there at once.

    A resident set would need a process for each figure, and would count what malloc holds back.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._now = 0
        self._known: dict[int, int] = {}

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call an operation, and count what it made: storages that it was not given."""
        given = kwargs or {}
        for tensor in _tensors((args, given)):
            self._know(tensor, 0)
        made = func(*args, **given)
        for tensor in _tensors(made):
            self._know(tensor, tensor.untyped_storage().nbytes())
        return made

    def _know(self, tensor: Tensor, size: int) -> None:
        storage = tensor.untyped_storage()
        key = storage.data_ptr()
        if key and key not in self._known:
            self._known[key] = size
            self._now += size
            self.peak = max(self.peak, self._now)
            weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self._now -= self._known.pop(key)


def _tensors(tree: object) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def rows_of(size: Size, costs: Mapping[MixAction, Cost]) -> list[Row]:
    """Return the table's rows, the plain step first, then the cheapest."""
    plain = costs[PLAIN]
    order = sorted(costs.items(), key=lambda one: (one[0] != PLAIN, one[1].seconds))
    return [
        {
            "model": size.model,
            "batch": size.batch,
            "action": str(action),
            "ms": 1e3 * cost.seconds,
            "times a plain step": cost.seconds / plain.seconds,
            "MB": cost.peak / 1e6,
            "times its MB": cost.peak / plain.peak,
            "passes": f"{cost.passes[0]}F + {cost.passes[1]}B",
        }
        for action, cost in order
    ]
