"""A mix action as numbers in [-1, 1], for agents that choose numbers instead of names.

The numbers of one action are, in order: a logit for each method, one number for the ratio, and a
logit for each saliency entry if there is more than one. The largest logit is chosen. The ratio
number is mapped in a straight line onto [0, largest ratio of the vocabulary], in hundredths.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from automix.core.errors import ConfigError
from automix.mixing.actions import MixAction, index_of, nearest_action

DIGITS = 2
"""Of a ratio: no training run shows a finer difference, and records name the mixes."""


def numbers_of(methods: Sequence[str], saliency: Sequence[str]) -> int:
    """Return how many numbers an action has."""
    return len(methods) + 1 + (len(saliency) if len(saliency) > 1 else 0)


def parts_of(
    numbers: np.ndarray, methods: Sequence[str], ratios: Sequence[float], saliency: Sequence[str]
) -> tuple[str, float, str]:
    """Return method, ratio and saliency of numbers (n,); beyond [-1, 1] counts as the border."""
    count = len(methods)
    share = (min(max(float(numbers[count]), -1.0), 1.0) + 1) / 2
    provider = int(np.argmax(numbers[count + 1 :])) if len(saliency) > 1 else 0
    return methods[int(np.argmax(numbers[:count]))], share * max(ratios), saliency[provider]


def from_numbers(
    numbers: np.ndarray, methods: Sequence[str], ratios: Sequence[float], saliency: Sequence[str]
) -> MixAction:
    """Return the action of numbers (n,)."""
    method, ratio, provider = parts_of(numbers, methods, ratios, saliency)
    return nearest_action(method, round(ratio, DIGITS), provider)


def to_numbers(
    action: MixAction, methods: Sequence[str], ratios: Sequence[float], saliency: Sequence[str]
) -> np.ndarray:
    """Return numbers (n,) float32 of an action: 1 for what is chosen, -1 for the rest.

    Raises:
        ConfigError: If no numbers stand for it.
    """
    method = index_of(action, methods) or 0
    provider = action.saliency if action.saliency in saliency else saliency[0]
    numbers = np.full(numbers_of(methods, saliency), -1.0, dtype=np.float32)
    numbers[method] = 1.0
    if max(ratios) > 0:
        numbers[len(methods)] = min(2 * action.ratio / max(ratios) - 1, 1.0)
    if len(saliency) > 1:
        numbers[len(methods) + 1 + saliency.index(provider)] = 1.0
    if from_numbers(numbers, methods, ratios, saliency) != action:
        raise ConfigError(
            f"{action} cannot be played with methods {', '.join(methods)}, saliency "
            f"{', '.join(saliency)} and ratios up to {max(ratios):g} in steps of {10**-DIGITS:g}",
            "add its method, ratio and saliency to env.actions",
        )
    return numbers
