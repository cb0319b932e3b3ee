"""How much of the differences between trials each swept parameter explains.

Where every combination has been tried, the share is exact: variance of a parameter's level means
over variance between all settings, as in an analysis of variance. What all parameters together
leave is owed to their interplay, and to seeds. Anywhere else a random forest stands for what was
not tried: shuffling a parameter's values among the trials changes its prediction by twice the
variance that the parameter explains, so half of what is lost of R2 is its share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from automix.agents.sweep.results import Setting

FEWEST = 8
"""Settings below which a forest has nothing to learn from."""

TREES = 200
REPEATS = 20


@dataclass(frozen=True)
class Importance:
    """What a parameter explains.

    Attributes:
        key: Of the parameter.
        share: Of the variance between settings, in [0, 1].
        by_chance: What the share would be on average if it had no effect; None for a forest.
        means: Mean metric at each value.
    """

    key: str
    share: float
    by_chance: float | None
    means: Mapping[str, float]


def importance_of(settings: Sequence[Setting], seed: int = 0) -> list[Importance]:
    """Return the parameters with two values or more, the most important first.

    Args:
        settings: With their means over seeds.
        seed: Of the forest and of the shuffling.
    """
    keys = _varied(settings)
    values = np.array([setting.value for setting in settings])
    if not keys or len(settings) < 2:
        return []
    if _complete(settings, keys):
        shares = [_exact(settings, values, key) for key in keys]
        by_chance: list[float | None] = [
            (len(_levels(settings, key)) - 1) / (len(settings) - 1) for key in keys
        ]
    elif len(settings) >= FEWEST:
        shares, by_chance = _of_a_forest(settings, values, keys, seed), [None] * len(keys)
    else:
        return []
    found = [
        Importance(key, share, chance, _means(settings, values, key))
        for key, share, chance in zip(keys, shares, by_chance, strict=True)
    ]
    return sorted(found, key=lambda one: -one.share)


def _varied(settings: Sequence[Setting]) -> list[str]:
    keys = dict.fromkeys(key for setting in settings for key in setting.values)
    return [key for key in keys if len(_levels(settings, key)) > 1]


def _levels(settings: Sequence[Setting], key: str) -> list[str]:
    return list(dict.fromkeys(setting.values.get(key, "") for setting in settings))


def _complete(settings: Sequence[Setting], keys: Sequence[str]) -> bool:
    """Whether every combination is there, once."""
    tried = {tuple(setting.values.get(key, "") for key in keys) for setting in settings}
    return len(tried) == len(settings) == prod(len(_levels(settings, key)) for key in keys)


def _means(settings: Sequence[Setting], values: np.ndarray, key: str) -> dict[str, float]:
    at = np.array([setting.values.get(key, "") for setting in settings])
    return {level: float(values[at == level].mean()) for level in _levels(settings, key)}


def _exact(settings: Sequence[Setting], values: np.ndarray, key: str) -> float:
    total = float(values.var())
    if total < 1e-15:
        return 0.0
    # Every level has equally many settings, so its mean counts once.
    return float(np.var(list(_means(settings, values, key).values()))) / total


def _of_a_forest(
    settings: Sequence[Setting], values: np.ndarray, keys: Sequence[str], seed: int
) -> list[float]:
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    if float(values.var()) < 1e-15:
        return [0.0] * len(keys)
    table = np.column_stack([_numbers(settings, key) for key in keys])
    forest = RandomForestRegressor(TREES, random_state=seed, n_jobs=1).fit(table, values)
    lost = permutation_importance(
        forest, table, values, scoring="r2", n_repeats=REPEATS, random_state=seed
    ).importances_mean
    return [float(share) for share in np.clip(lost / 2, 0.0, 1.0)]


def _numbers(settings: Sequence[Setting], key: str) -> list[float]:
    """Return a parameter's values as numbers; names count up in the order in which they came."""
    texts = [setting.values.get(key, "") for setting in settings]
    try:
        return [float(text) for text in texts]
    except ValueError:
        levels = _levels(settings, key)
        return [float(levels.index(text)) for text in texts]
