"""A lattice of holes, as GridMixup draws it: one hole after the other."""

from __future__ import annotations

import math


def open_pixels(side: int, step: float, first: float, hole: float) -> list[bool]:
    """Return which pixels of a side lie in a hole: one every ``step`` pixels from ``first`` on."""
    inside = [False] * side
    start = first - math.ceil(first / step) * step
    while start < side:
        for at in range(side):
            inside[at] = inside[at] or start <= at < start + hole
        start += step
    return inside
