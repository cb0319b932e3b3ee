"""PuzzleMix, Kim et al. 2020, section 3: the energy of a mask, and the cost of moving blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence


def pooled(saliency: Sequence, rows: int, columns: int) -> list[list[float]]:
    """Add up a map (h, w) in each cell."""
    height, width = len(saliency), len(saliency[0])
    cells = [[0.0] * columns for _ in range(rows)]
    for y in range(height):
        for x in range(width):
            cells[y * rows // height][x * columns // width] += float(saliency[y][x])
    return cells


def energy(
    labels: Sequence,
    own: Sequence,
    partner: Sequence,
    share: float,
    weights: tuple[float, float],
) -> float:
    """Return what labels (rows, columns) of 0, 1/2, 1 cost, without the pixels.

    Saliency that does not show, the prior -log Binomial(2, share), and the squared step over each
    border; the weights are eta and beta, in the official code's scale.
    """
    eta, beta = weights
    rows, columns = len(labels), len(labels[0])
    total = 0.0
    for i in range(rows):
        for j in range(columns):
            label = labels[i][j]
            total += label * own[i][j] + (1 - label) * partner[i][j]
            k = round(2 * label)
            chance = math.comb(2, k) * share**k * (1 - share) ** (2 - k)
            total -= eta * math.log(chance) / (rows * columns)
            for other in neighbours(i, j, rows, columns):
                step = label - labels[other[0]][other[1]]
                total += beta / (max(rows, columns) * 16) * step**2
    return total


def pixel_energy(labels: Sequence, own: Sequence, partner: Sequence, weight: float) -> float:
    """Return what unlike pixels at the borders cost, for labels of 0 and 1.

    At each border, the mean distance of the pixels that meet there in the mixed image (c, h, w),
    in units of the range of both images.
    """
    rows, columns = len(labels), len(labels[0])
    channels, height, width = len(own), len(own[0]), len(own[0][0])
    values = [v for image in (own, partner) for channel in image for row in channel for v in row]
    reach = max(values) - min(values)

    def shown(c: int, y: int, x: int) -> float:
        source = partner if labels[y * rows // height][x * columns // width] else own
        return source[c][y][x]

    meeting: dict[tuple, list[float]] = {}
    for y in range(height):
        for x in range(width):
            here = (y * rows // height, x * columns // width)
            for below in ((y + 1, x), (y, x + 1)):
                if below[0] == height or below[1] == width:
                    continue
                there = (below[0] * rows // height, below[1] * columns // width)
                if here != there:
                    distances = [abs(shown(c, y, x) - shown(c, *below)) for c in range(channels)]
                    meeting.setdefault((here, there), []).extend(distances)
    scale = weight / (max(rows, columns) * 16) / reach
    return scale * sum(sum(found) / len(found) for found in meeting.values())


def neighbours(i: int, j: int, rows: int, columns: int) -> list[tuple[int, int]]:
    """Return the cells below and right of a cell."""
    return [(y, x) for y, x in ((i + 1, j), (i, j + 1)) if y < rows and x < columns]


def transport_costs(weight: Sequence, mass: Sequence, eps: float) -> list[list[float]]:
    """Return the cost of each block (row) at each place (column) of a grid (rows, columns)."""
    rows, columns = len(weight), len(weight[0])
    places = [(y, x) for y in range(rows) for x in range(columns)]
    unit = (max(rows, columns) - 1) ** 2
    return [
        [eps * ((a - y) ** 2 + (b - x) ** 2) / unit - weight[y][x] * mass[a][b] for y, x in places]
        for a, b in places
    ]
