"""A task is what one training is about; a family is the distribution that episodes draw from."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from automix.core.errors import ConfigError, DataError
from automix.core.seeding import generator
from automix.core.settings import check_ranges, setting
from automix.data import DataSource, load
from automix.data.image_set import ImageSet, Split, describe, doubts, scarce
from automix.data.memory import images_a_piece

log = logging.getLogger("automix")

TEST_SPLIT_SEED = 0
"""The test part of a set is the same for every task and run, so that no task's training or
validation images are another task's test images."""


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """One task by its numbers: enough to build it again anywhere."""

    train_size: int
    """Training images; 0 takes all that validation and test leave."""
    label_noise: float
    """Share of training labels replaced by a uniformly drawn other class, in [0, 1)."""
    seed: int
    """Draws the training and validation images and the wrong labels, together with the kind:
    tasks of different kinds share nothing by having the same seed."""
    world: str = ""
    """The world of a suite that the task is of; empty where there is one world only."""

    @property
    def kind(self) -> str:
        """What tasks of the same difficulty share, as reports name it."""
        size = str(self.train_size) if self.train_size else "all"
        world = f"{self.world}: " if self.world else ""
        return f"{world}{size} images, {100 * self.label_noise:g}% noise"


@dataclass(frozen=True, kw_only=True)
class FamilySettings(DataSource):
    """The distribution of tasks: where the images come from, and how each task is cut."""

    train_sizes: Sequence[int] = (0,)
    """Training-set sizes, drawn uniformly; 0 takes everything that is left."""
    label_noise: Sequence[float] = (0.0,)
    """Shares of wrong training labels, drawn uniformly."""
    val_size: int = setting(0, least=0)
    """Validation images of a task; 0 takes a fifth of what is not test."""
    test_share: float = setting(0.33, above=0, below=1)
    """Share split off for evaluation where the set does not say itself."""
    test_size: int = setting(0, least=0)
    """Images of the test part that evaluation reads, always the same ones; 0 reads all."""
    min_per_class: int = setting(3, least=1, whole=True, affects="speed")
    """Fewest images of a class. With fewer than 3 it cannot be in training, validation and test
    part; such classes are refused unless this is lower; then a warning names them."""

    def __post_init__(self) -> None:
        for noise in self.label_noise:
            if not 0 <= noise < 1:
                raise ConfigError(
                    f"task.label_noise holds {noise}, wanted numbers from 0 to below 1"
                )
        for size in self.train_sizes:
            if size < 0:
                raise ConfigError(f"task.train_sizes holds {size}, wanted 0 (all) or more")
        if not self.train_sizes or not self.label_noise:
            raise ConfigError("task.train_sizes and task.label_noise need one entry or more")
        check_ranges(self, "task")

    @property
    def source(self) -> DataSource:
        """Where the images come from, without how they are cut."""
        return DataSource(**{f.name: getattr(self, f.name) for f in fields(DataSource)})


@dataclass(frozen=True)
class Task:
    """The splits of one task: positions in the image set, and the labels that training sees.

    ``test_index`` is for ``automix.training.evaluation`` alone.
    """

    spec: TaskSpec
    images: ImageSet
    train_index: np.ndarray
    train_labels: np.ndarray
    """(n,) int64: with the wrong labels, in the order of ``train_index``."""
    val_index: np.ndarray
    test_index: np.ndarray
    mean: Tensor
    """(c, 1, 1) float32 of the training images."""
    std: Tensor
    """(c, 1, 1) float32 of the training images, above 0."""

    def normalised(self, index: np.ndarray) -> Tensor:
        """Read images and scale them by the training split's mean and deviation."""
        return (self.images.pixels.read(index) - self.mean) / self.std

    def split(self, index: np.ndarray, device: torch.device) -> Split:
        """Return scaled images: on the device if they fit there, else read when asked for."""
        return Split(self.normalised, index, self.images, device)

    def labels(self, index: np.ndarray) -> Tensor:
        """Return the true labels, (n,) int64."""
        return torch.from_numpy(self.images.labels[index])


class TaskFamily:
    """Draws tasks of one image set.

    Args:
        settings: Sizes, noise levels and splits.

    Raises:
        DataError: If the images cannot be read, or are too few for the splits asked for.
    """

    def __init__(self, settings: FamilySettings) -> None:
        self.settings = settings
        self.images = load_once(settings.source)
        _check_classes(self.images, settings.min_per_class)
        self._rest, self._test = _test_split(self.images, settings.test_share)
        if 0 < settings.test_size < len(self._test):
            rng = generator(TEST_SPLIT_SEED, "test size")
            count = max(settings.test_size, self.images.num_classes)
            self._test, _ = stratified_split(self.images.labels, self._test, count, rng)
        self.val_size = settings.val_size or max(self.images.num_classes, len(self._rest) // 5)
        self._check_sizes(settings.train_sizes)

    def tell(self) -> dict[str, Any]:
        """Log what was loaded and what to know of it; return both for the files of a run."""
        line = describe(self.images, self._test)
        warnings = doubts(self.images, self._rest, self._test)
        log.info("images: %s", line)
        for warning in warnings:
            log.warning("images: %s", warning)
        return {"name": self.images.name, "loaded": line, "warnings": warnings}

    def draw(self, rng: np.random.Generator) -> TaskSpec:
        """Draw size, noise and seed."""
        settings = self.settings
        return TaskSpec(
            train_size=int(rng.choice(np.asarray(settings.train_sizes))),
            label_noise=float(rng.choice(np.asarray(settings.label_noise))),
            seed=int(rng.integers(2**31)),
        )

    def train_size(self, spec: TaskSpec) -> int:
        """Return the number of training images of a task, without building it."""
        most = len(self._rest) - self.val_size
        return min(spec.train_size or most, most)

    def task(self, spec: TaskSpec) -> Task:
        """Build a task; equal specs give equal tasks.

        Raises:
            DataError: If the set has too few images for it.
        """
        self._check_sizes([spec.train_size])
        labels = self.images.labels
        rng = generator(spec.seed, "task", spec.kind, "split")
        val, train = stratified_split(labels, self._rest, self.val_size, rng)
        size = spec.train_size
        if size and size < len(train):
            train, _ = stratified_split(labels, train, size, rng)
        mean, std = _statistics(self.images, train)
        noise_rng = generator(spec.seed, "task", spec.kind, "noise")
        return Task(
            spec=spec,
            images=self.images,
            train_index=train,
            train_labels=noisy_labels(
                labels[train], spec.label_noise, self.images.num_classes, noise_rng
            ),
            val_index=val,
            test_index=self._test,
            mean=mean,
            std=std,
        )

    def _check_sizes(self, sizes: Sequence[int]) -> None:
        have = len(self._rest)
        least = self.images.num_classes
        for size in sizes:
            wanted = max(size, least)
            if size and size < least:
                raise DataError(
                    f"{self.images.name}: train size {size} is below one image for each of "
                    f"{least} classes",
                    f"use task.train_sizes of {least} or more",
                )
            if self.val_size + wanted > have:
                raise DataError(
                    f"{self.images.name}: {have} images are left besides {len(self._test)} for "
                    f"testing, wanted {self.val_size} for validation and {wanted} for training",
                    "lower task.train_sizes, task.val_size or task.test_share",
                )


@lru_cache(maxsize=16)
def load_once(source: DataSource) -> ImageSet:
    """Load a source, or return it from this process's memory."""
    return load(source)


def _check_classes(images: ImageSet, least: int) -> None:
    few = scarce(images, least)
    if few:
        raise DataError(
            f"{images.name}: {few}; wanted {least} images of each class, one for each of training, "
            "validation and test part",
            "add images, take the class out, or take it as it is with task.min_per_class=1",
        )


def _test_split(images: ImageSet, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions that tasks may use and those of the test part."""
    everything = np.arange(len(images.labels))
    if images.test is not None:
        return np.setdiff1d(everything, images.test), images.test
    rng = generator(TEST_SPLIT_SEED, "test split")
    count = max(images.num_classes, round(share * len(everything)))
    test, rest = stratified_split(images.labels, everything, count, rng)
    return rest, test


def stratified_split(
    labels: np.ndarray, index: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Take ``count`` positions with the class shares of all of them; return them and the rest.

    Both parts come in random order. Classes whose share is not a whole number are rounded so
    that the sum is exact; every class keeps at least one image in each part if it has two.
    """
    index = rng.permutation(index)
    rank, size = _rank_in_class(labels[index])
    # Largest remainders: each class gives the whole part of its share, and those with the largest
    # fractions one image more. The first image of each class comes before all others, so that
    # small classes are seen.
    share = count * size / len(index)
    whole = np.floor(share)
    place = np.select([rank < whole, rank == whole], [-1.0, 1.0 - (share - whole)], 2.0)
    place[rank == 0] = -2.0
    place[(rank == size - 1) & (size > 1)] = 3.0
    taken = np.argsort(place, kind="stable")[:count]
    chosen = np.zeros(len(index), dtype=bool)
    chosen[taken] = True
    return rng.permutation(index[chosen]), rng.permutation(index[~chosen])


def _rank_in_class(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each entry's rank among those of its class, and the size of its class."""
    order = np.argsort(labels, kind="stable")
    _, start, inverse, counts = np.unique(
        labels[order], return_index=True, return_inverse=True, return_counts=True
    )
    rank = np.empty(len(labels), dtype=np.int64)
    size = np.empty(len(labels), dtype=np.int64)
    rank[order] = np.arange(len(labels)) - start[inverse]
    size[order] = counts[inverse]
    return rank, size


def noisy_labels(
    labels: np.ndarray, share: float, num_classes: int, rng: np.random.Generator
) -> np.ndarray:
    """Replace exactly ``round(share * n)`` labels by a uniformly drawn other class."""
    wrong = rng.permutation(len(labels))[: round(share * len(labels))]
    noisy = labels.copy()
    noisy[wrong] = (labels[wrong] + rng.integers(1, num_classes, len(wrong))) % num_classes
    return noisy


def _statistics(images: ImageSet, index: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean and deviation per channel, each (c, 1, 1), from at most 10 000 training images."""
    # Large images have pixels enough for that in one piece of memory.
    count = min(10_000, images_a_piece(images.shape))
    sample = images.pixels.read(np.sort(index[:count]))
    std, mean = torch.std_mean(sample, (0, 2, 3), correction=0)
    return mean[:, None, None], std.clamp_min(1e-4)[:, None, None]
