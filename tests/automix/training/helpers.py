"""Tasks, stacks and watchers that the tests of trainings share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from automix.core.seeding import generator
from automix.data.tasks import FamilySettings, Task, TaskFamily, TaskSpec
from automix.mixing.actions import MixAction
from automix.mixing.batch import mix_batch
from automix.training.batches.members import Member
from automix.training.ensemble import StackedEnsemble
from automix.training.metrics import EpochLog, EpochMetrics
from automix.training.population import Population
from tests import tiny

CPU = torch.device("cpu")
FLIPS = 0.04
"""An image of thirty that float order moves across a border between two classes."""


@lru_cache
def digits(train: int = 60, seed: int = 3) -> Task:
    """Some training digits and 30 for validation; ``digits()`` is that of ``tests.tiny``."""
    settings = FamilySettings(dataset="digits", train_sizes=(train,), val_size=30)
    return TaskFamily(settings).task(TaskSpec(train_size=train, label_noise=0.1, seed=seed))


def population_of(
    members: int = 1, task: Task | None = None, seed: int = 0, **changes: Any
) -> Population:
    """Members that are alike, reset."""
    population = Population([task or digits()] * members, tiny.trainer_settings(**changes))
    population.reset([seed] * members)
    return population


def order(task: Task, seed: int, epoch: int) -> np.ndarray:
    """The order in which an epoch shows the training images."""
    return generator(seed, "order", epoch).permutation(len(task.train_index))


def ensembles(population: Population) -> list[StackedEnsemble]:
    """The stacks, in the order of their first members."""
    return list({id(ensemble): ensemble for ensemble, _ in population._places}.values())


def ensemble_of(population: Population) -> StackedEnsemble:
    """The only stack."""
    (ensemble,) = ensembles(population)
    return ensemble


def member_of(population: Population, member: int = 0) -> Member:
    ensemble, slot = population._places[member]
    return ensemble._members[slot]


@contextmanager
def epoch_of(
    ensemble: StackedEnsemble, actions: Sequence[MixAction]
) -> Iterator[tuple[Any, EpochLog]]:
    """An epoch's batches, to be stepped by hand, and its log."""
    log = EpochLog(len(actions), CPU)
    with ensemble._private_draws():
        ensemble._net.train()
        batches = ensemble._loader.batches(actions, ensemble.epoch, ensemble._updates, log)
        yield batches, log
    ensemble.epoch += 1


def play_epoch(
    ensemble: StackedEnsemble, actions: Sequence[MixAction]
) -> list[tuple[Tensor, Tensor]]:
    """Train for one epoch without measuring; return copies of the batches' images and targets."""
    seen = []
    with epoch_of(ensemble, actions) as (batches, log):
        for batch in batches:
            seen.append((batch.images.clone(), batch.targets.clone()))
            ensemble._step(batch, log)
    return seen


def assert_close(got: EpochMetrics, wanted: EpochMetrics, tolerance: float = 2e-3) -> None:
    """Two records of one training, but for the order in which floats were added."""
    for name, value in vars(wanted).items():
        found = getattr(got, name)
        if "accuracy" in name:
            assert abs(found - value) < FLIPS, (name, found, value)
        elif value is None or isinstance(value, bool | int):
            assert found == value, (name, found, value)
        else:
            np.testing.assert_allclose(found, value, tolerance, tolerance, err_msg=name)


def watched_mixes(monkeypatch: pytest.MonkeyPatch) -> list[SimpleNamespace]:
    """What each call of the mix in a training gets (a copy of the images, maps) and gives."""
    calls = []

    def spy(images, targets, action, *, saliency=None, **options):
        given = {"images": images.clone(), "action": action, "saliency": saliency}
        mixed = mix_batch(images, targets, action, saliency=saliency, **options)
        calls.append(SimpleNamespace(**given, mixed=mixed))
        return mixed

    monkeypatch.setattr("automix.training.batches.loader.mix_batch", spy)
    return calls


def spoil(population: Population, member: int = 0) -> None:
    """Fill a weight with NaN, as a step too far would."""
    weight, rows = next(iter(ensemble_of(population)._stack.parts(member).values()))
    with torch.no_grad():
        weight[rows].fill_(float("nan"))


class Watch(TorchDispatchMode):
    """Notes each call of an operator: its name, what it was given, what it returned."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, tuple[Any, ...], Any]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.calls.append((func.overloadpacket.__name__, args, result))
        return result

    def of(self, name: str) -> list[tuple[tuple[Any, ...], Any]]:
        """What one operator was given and returned, call by call."""
        return [(args, result) for called, args, result in self.calls if called == name]
