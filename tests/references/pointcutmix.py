"""PointCutMix, Zhang et al. 2021, section 3."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import permutations


def matched(own: Sequence, partner: Sequence) -> tuple[int, ...]:
    """Return the one-to-one assignment with the smallest sum of distances, of all there are."""
    return min(
        permutations(range(len(own))),
        key=lambda order: sum(math.dist(a, partner[j]) for a, j in zip(own, order, strict=True)),
    )


def nearest(cloud: Sequence, centre: int, count: int) -> set[int]:
    """Return the points of a cloud nearest to one of them, itself among them."""
    return set(sorted(range(len(cloud)), key=lambda i: math.dist(cloud[i], cloud[centre]))[:count])
