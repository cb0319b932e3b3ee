"""TokenMix's mask, token by token, from the numbers that were drawn for it."""

from __future__ import annotations

import math
from collections.abc import Iterator

Token = tuple[int, int]


def blocks(
    rows: int, columns: int, count: int, rounds: Iterator[tuple[float, float, float, float]]
) -> set[Token]:
    """Return the tokens that rectangles take.

    Args:
        rows: Of the grid.
        columns: Of the grid.
        count: Tokens wanted.
        rounds: For each rectangle: its area and form, the places of its top and of its left, each
            as a number from 0 to 1.
    """
    taken: set[Token] = set()
    tries = 0
    while len(taken) < count and tries < 10:
        size, form, down, across = next(rounds)
        area = 1 + size * (count - len(taken) - 1)
        aspect = math.exp(math.log(0.3) + (1 - form) * (math.log(1 / 0.3) - math.log(0.3)))
        height = min(round(math.sqrt(area * aspect)), rows)
        width = min(round(math.sqrt(area / aspect)), columns)
        top, left = int(down * (rows - height + 1)), int(across * (columns - width + 1))
        block = {(top + i, left + j) for i in range(height) for j in range(width)} - taken
        tries += 1
        if block and len(taken | block) <= count:
            taken, tries = taken | block, 0
    return taken


def filled(taken: set[Token], rows: int, columns: int, count: int, keys: list[float]) -> set[Token]:
    """Add free tokens, those with the smallest keys first, until there are ``count``."""
    free = [(i, j) for i in range(rows) for j in range(columns) if (i, j) not in taken]
    free.sort(key=lambda token: keys[token[0] * columns + token[1]])
    return taken | set(free[: count - len(taken)])
