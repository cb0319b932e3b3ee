"""Labels that follow attention, for one image at a time, straight from the papers' formulas."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, sqrt

Rows = Sequence[Sequence[float]]


def product(left: Rows, right: Rows) -> list[list[float]]:
    """Product of two matrices."""
    columns = list(zip(*right, strict=True))
    return [[sum(map(lambda a, b: a * b, row, column)) for column in columns] for row in left]


def softmax(row: Sequence[float]) -> list[float]:
    """Shares of exponentials."""
    powers = [exp(value - max(row)) for value in row]
    return [power / sum(powers) for power in powers]


def attention(tokens: Rows, weight: Rows, bias: Sequence[float], heads: int) -> list[list[float]]:
    """Mean over heads of a block's attention (n, n), of the tokens (n, d) that it is given.

    The weight (3 d, d) makes queries, keys and values, and each of them holds head after head.
    """
    wide = len(tokens[0])
    made = product(tokens, list(zip(*weight, strict=True)))
    made = [[value + more for value, more in zip(row, bias, strict=True)] for row in made]
    size, total = wide // heads, [[0.0] * len(tokens) for _ in tokens]
    for head in range(heads):
        queries = [row[head * size : (head + 1) * size] for row in made]
        keys = [row[wide + head * size : wide + (head + 1) * size] for row in made]
        scores = product(queries, list(zip(*keys, strict=True)))
        for i, row in enumerate(scores):
            for j, share in enumerate(softmax([score / sqrt(size) for score in row])):
                total[i][j] += share / heads
    return total


def begun(mask: Rows, patch: int, own: Sequence[float], partner: Sequence[float]) -> Rows:
    """Labels (1 + tokens, k) of class token and tokens, from a mask (h, w) that splits no token."""

    def mixed(weight: float) -> list[float]:
        return [(1 - weight) * a + weight * b for a, b in zip(own, partner, strict=True)]

    corners = [row[::patch] for row in mask[::patch]]
    area = sum(map(sum, corners)) / (len(corners) * len(corners[0]))
    return [mixed(area), *(mixed(weight) for row in corners for weight in row)]


def aligned(labels: Rows, attentions: Sequence[Rows]) -> Rows:
    """TL-Align: labels (tokens, k) behind the last block, a column for each class."""
    for block in attentions:
        arrived = product(block, labels)
        labels = [
            [(kept + new) / 2 for kept, new in zip(own, told, strict=True)]
            for own, told in zip(labels, arrived, strict=True)
        ]
    return labels


def attended(mask: Rows, patch: int, row: Sequence[float]) -> float:
    """TransMix: the share of a row of attention, class token left out, on the partner."""
    weights = [weight for line in mask[::patch] for weight in line[::patch]]
    seen = sum(weight * share for weight, share in zip(weights, row, strict=True))
    return seen / sum(row)
