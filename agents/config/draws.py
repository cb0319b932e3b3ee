"""Tasks drawn from the range that a family spans, at sizes and noise levels it does not name.

Comparing on them says something about the family: a policy that only knows the kinds it was trained
on has never met any of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from automix.core.errors import ConfigError
from automix.core.seeding import generator
from automix.data.tasks import FamilySettings, TaskSpec

PERCENT = 100
"""Noise levels are drawn to 1 / 100."""


def check_range(family: FamilySettings) -> None:
    """Check that a family spans a range with values that it does not name.

    Raises:
        ConfigError: If there is nothing to draw from.
    """
    sizes, noises = _several(family.train_sizes), _several(family.label_noise)
    if not sizes and not noises:
        raise ConfigError(
            "compare.draws and compare.validation_draws need a range, and task.train_sizes and "
            "task.label_noise name one value each",
            "name a smallest and a largest, such as task.train_sizes=[100,400], or compare kinds",
        )
    if sizes and 0 in family.train_sizes:
        raise ConfigError(
            f"task.train_sizes is {list(family.train_sizes)}: 0 (all) is no end of a range",
            "write the number of images, or set compare.draws=0 compare.validation_draws=0",
        )
    for name, several, free in (
        ("train_sizes", sizes, _free_size(family)),
        ("label_noise", noises, _free_noise(family)),
    ):
        if several and not free:
            raise ConfigError(
                f"task.{name} is {list(getattr(family, name))}: no value is left between them",
                "held-out tasks are drawn at values that are not trained on: name fewer",
            )


def drawn_specs(family: FamilySettings, count: int, first_seed: int) -> list[TaskSpec]:
    """Draw tasks; more of them start with the same ones.

    Sizes are log-uniform whole numbers between the smallest and the largest of the family, noise
    levels uniform, rounded to 0.01; what the family names itself is drawn again. Of what the family
    names one value only, that value stands.

    Args:
        family: What is trained on.
        count: How many tasks.
        first_seed: Seed of the first task, later ones follow; also fixes the draws. Nothing else
            does, so every agent meets the same tasks.
    """
    rng = generator(first_seed, "drawn tasks")
    return [
        TaskSpec(
            train_size=_size(family, rng), label_noise=_noise(family, rng), seed=first_seed + index
        )
        for index in range(count)
    ]


def cells_of(family: FamilySettings) -> list[str]:
    """Return the names of the cells that draws are shown in: small or large, little or much noise.

    Halves meet at the geometric middle of the sizes and at the middle of the noise levels.
    """
    return [f"{size}, {noise}" for size in _size_halves(family) for noise in _noise_halves(family)]


def cell_of(spec: TaskSpec, family: FamilySettings) -> str:
    """Return the name of the cell that a drawn task belongs to."""
    sizes, noises = _size_halves(family), _noise_halves(family)
    large = len(sizes) > 1 and spec.train_size > _middle_size(family)
    noisy = len(noises) > 1 and spec.label_noise > _middle_noise(family)
    return f"{sizes[int(large)]}, {noises[int(noisy)]}"


def _size(family: FamilySettings, rng: np.random.Generator) -> int:
    low, high = min(family.train_sizes), max(family.train_sizes)
    if low == high:
        return low
    while True:
        size = round(math.exp(rng.uniform(math.log(low), math.log(high))))
        if size not in family.train_sizes:
            return size


def _noise(family: FamilySettings, rng: np.random.Generator) -> float:
    low, high = min(family.label_noise), max(family.label_noise)
    if low == high:
        return low
    while True:
        noise = round(rng.uniform(low, high), 2)
        if low < noise < high and noise not in family.label_noise:
            return noise


def _free_size(family: FamilySettings) -> bool:
    low, high = min(family.train_sizes), max(family.train_sizes)
    return high - low + 1 > len(set(family.train_sizes))


def _free_noise(family: FamilySettings) -> bool:
    low, high = min(family.label_noise), max(family.label_noise)
    levels = (level / PERCENT for level in range(PERCENT))
    return any(low < level < high and level not in family.label_noise for level in levels)


def _several(values: Sequence[float]) -> bool:
    return len(set(values)) > 1


def _middle_size(family: FamilySettings) -> int:
    return round(math.sqrt(min(family.train_sizes) * max(family.train_sizes)))


def _middle_noise(family: FamilySettings) -> float:
    return (min(family.label_noise) + max(family.label_noise)) / 2


def _size_halves(family: FamilySettings) -> list[str]:
    low, high, middle = min(family.train_sizes), max(family.train_sizes), _middle_size(family)
    if low == high:
        return [f"{low or 'all'} images"]
    return [f"{low}-{middle} images", f"{middle}-{high} images"]


def _noise_halves(family: FamilySettings) -> list[str]:
    low, high = min(family.label_noise), max(family.label_noise)
    ends = [f"{PERCENT * level:g}" for level in (low, _middle_noise(family), high)]
    if low == high:
        return [f"{ends[0]}% noise"]
    return [f"{ends[0]}-{ends[1]}% noise", f"{ends[1]}-{ends[2]}% noise"]
