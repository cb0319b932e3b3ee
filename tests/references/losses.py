"""Losses and adapting targets, number by number."""

from __future__ import annotations

import math
from collections.abc import Sequence


def cross_entropy(logits: Sequence[float], target: Sequence[float]) -> float:
    """``-sum t log softmax(z)``."""
    total = math.log(sum(math.exp(z) for z in logits))
    return -sum(t * (z - total) for t, z in zip(target, logits, strict=True))


def margin_penalty(logits: Sequence[float], margin: float) -> float:
    """MbLS, equation 6: mean over the classes of ``max(0, max z - z - m)``."""
    return sum(max(0.0, max(logits) - z - margin) for z in logits) / len(logits)


def moved(target: Sequence[float], said: Sequence[float], momentum: float) -> list[float]:
    """Self-adaptive training, algorithm 1: a target after an epoch."""
    return [momentum * t + (1 - momentum) * p for t, p in zip(target, said, strict=True)]


def weights(targets: Sequence[Sequence[float]]) -> list[float]:
    """Self-adaptive training, algorithm 1: weights of images in the loss, with the mean 1."""
    largest = [max(target) for target in targets]
    return [one * len(largest) / sum(largest) for one in largest]
