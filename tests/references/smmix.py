"""SMMix, window by window, pixel by pixel and token by token, on nested lists."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

Table = Sequence[Sequence[float]]


def windows(table: Table, height: int, width: int) -> dict[tuple[int, int], float]:
    """Return the sum of every window of a table, by its first row and column."""
    rows, columns = len(table), len(table[0])
    return {
        (i, j): math.fsum(table[i + y][j + x] for y in range(height) for x in range(width))
        for i in range(rows - height + 1)
        for j in range(columns - width + 1)
    }


def best(table: Table, sides: tuple[int, int], choose: Callable = max) -> tuple[int, int]:
    """Return the first row and column of the window with the largest (or ``min``) sum."""
    sums = windows(table, *sides)
    return choose(sums, key=lambda at: sums[at])


def forms(rows: int, columns: int) -> dict[int, tuple[int, int]]:
    """Return windows of the form of a grid, from nothing to all of it, by their tokens."""
    longer = max(rows, columns)
    found = {0: (0, 0)}
    for side in range(1, longer + 1):
        height, width = (max(1, round(side * each / longer)) for each in (rows, columns))
        found[height * width] = height, width
    return found


def pasted(
    own: Sequence[Table],
    partner: Sequence[Table],
    source: tuple[int, int],
    target: tuple[int, int],
    sides: tuple[int, int],
    patch: int,
) -> tuple[list[list[list[float]]], list[list[bool]]]:
    """Return an image [channel][y][x] with the partner's window in it, and where that is.

    Args:
        own: The image.
        partner: Its partner.
        source: First row and column, in tokens, of the partner's window.
        target: The same of the image's.
        sides: Rows and columns of tokens.
        patch: Pixels along a token.
    """
    mixed = [[list(line) for line in channel] for channel in own]
    shown = [[False for _ in line] for line in own[0]]
    for y in range(sides[0] * patch):
        for x in range(sides[1] * patch):
            to = target[0] * patch + y, target[1] * patch + x
            shown[to[0]][to[1]] = True
            for channel, theirs in zip(mixed, partner, strict=True):
                channel[to[0]][to[1]] = theirs[source[0] * patch + y][source[1] * patch + x]
    return mixed, shown


def log_softmax(logits: Sequence[float]) -> list[float]:
    """Return log probabilities."""
    total = math.log(math.fsum(math.exp(one) for one in logits))
    return [one - total for one in logits]


def cross_entropy(logits: Sequence[float], target: Sequence[float]) -> float:
    """Return it in nats."""
    return -math.fsum(p * q for p, q in zip(target, log_softmax(logits), strict=True))


def divergence(own: Sequence[float], partner: Sequence[float], lam: float, mixed) -> float:
    """Return KL(softmax(lam own + (1 - lam) partner) || softmax(mixed)) in nats."""
    wanted = log_softmax([lam * a + (1 - lam) * b for a, b in zip(own, partner, strict=True)])
    pairs = zip(wanted, log_softmax(mixed), strict=True)
    return math.fsum(math.exp(p) * (p - q) for p, q in pairs)
