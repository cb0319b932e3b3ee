"""Spectral residual (Hou and Zhang 2007, section 2) and gradient saliency by finite differences."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Sequence

import numpy as np


def dft(image: Sequence, sign: int) -> list[list[complex]]:
    """Discrete Fourier transform of (h, w) by its definition; sign 1 is the inverse, unscaled."""
    height, width = len(image), len(image[0])
    return [
        [
            sum(
                image[y][x] * cmath.exp(sign * 2j * math.pi * (u * y / height + v * x / width))
                for y in range(height)
                for x in range(width)
            )
            for v in range(width)
        ]
        for u in range(height)
    ]


def clipped(values: Sequence, y: int, x: int) -> float:
    """Read (h, w) at a place, the nearest border pixel where it lies outside."""
    return values[min(max(y, 0), len(values) - 1)][min(max(x, 0), len(values[0]) - 1)]


def spectral_residual(image: Sequence) -> list[list[float]]:
    """Return the saliency (h, w), which sums to 1, of an image (c, h, w)."""
    channels, height, width = len(image), len(image[0]), len(image[0][0])
    places = [(y, x) for y in range(height) for x in range(width)]

    def table(value: Callable[[int, int], complex]) -> list[list]:
        return [[value(y, x) for x in range(width)] for y in range(height)]

    grey = table(lambda y, x: sum(image[c][y][x] for c in range(channels)) / channels)
    spectrum = dft(grey, -1)
    logs = table(lambda y, x: math.log(max(abs(spectrum[y][x]), 1e-8)))
    near = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    trend = table(lambda y, x: sum(clipped(logs, y + dy, x + dx) for dy, dx in near) / 9)
    residual = table(
        lambda y, x: (
            math.exp(logs[y][x] - trend[y][x]) * cmath.exp(1j * cmath.phase(spectrum[y][x]))
        )
    )
    energy = [[abs(v / (height * width)) ** 2 for v in row] for row in dft(residual, 1)]
    sigma = max(0.5, max(height, width) / 20)
    reach = max(1, round(2 * sigma))
    window = range(-reach, reach + 1)
    bell = {(a, b): math.exp(-(a * a + b * b) / (2 * sigma**2)) for a in window for b in window}
    blurred = table(
        lambda y, x: sum(weight * clipped(energy, y + a, x + b) for (a, b), weight in bell.items())
    )
    total = sum(blurred[y][x] for y, x in places)
    return table(lambda y, x: blurred[y][x] / total)


def cross_entropy(logits: np.ndarray, target: np.ndarray) -> float:
    """Cross-entropy of one row of logits for class probabilities."""
    return float(-(target * (logits - np.log(np.exp(logits).sum()))).sum())


def gradient_saliency(
    image: np.ndarray, target: np.ndarray, net: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Root mean square over channels of the loss slope at each pixel, by central differences.

    Args:
        image: (c, h, w) float64.
        target: (k,) class probabilities.
        net: image -> (k,) logits.
    """
    step = 1e-5
    gradients = np.zeros_like(image)
    for place in np.ndindex(image.shape):
        for sign in (1, -1):
            moved = image.copy()
            moved[place] += sign * step
            gradients[place] += sign * cross_entropy(net(moved), target) / (2 * step)
    saliency = np.sqrt((gradients**2).mean(0))
    return saliency / saliency.sum()


def class_map(
    features: list[list[list[float]]], weights: list[list[float]], target: list[float]
) -> list[list[float]]:
    """Channels [c][y][x] weighed by a linear layer's rows [k][c], those by the target [k]."""
    rows, columns = len(features[0]), len(features[0][0])
    return [
        [
            sum(
                target[k] * weights[k][c] * features[c][y][x]
                for k in range(len(target))
                for c in range(len(features))
            )
            for x in range(columns)
        ]
        for y in range(rows)
    ]


def bilinear(grid: list[list[float]], height: int, width: int) -> list[list[float]]:
    """Enlarge a grid; the centre of each cell keeps its value, the border repeats the outermost."""
    rows, columns = len(grid), len(grid[0])

    def sides(at: int, size: int, cells: int) -> tuple[int, int, float]:
        place = min(max((at + 0.5) * cells / size - 0.5, 0.0), cells - 1.0)
        low = int(place)
        return low, min(low + 1, cells - 1), place - low

    found = []
    for y in range(height):
        up, down, v = sides(y, height, rows)
        line = []
        for x in range(width):
            left, right, u = sides(x, width, columns)
            above = (1 - u) * grid[up][left] + u * grid[up][right]
            below = (1 - u) * grid[down][left] + u * grid[down][right]
            line.append((1 - v) * above + v * below)
        found.append(line)
    return found


def energy(features: list[list[list[float]]]) -> list[list[float]]:
    """Root mean square over the channels [c][y][x]."""
    return [
        [
            (sum(one[y][x] ** 2 for one in features) / len(features)) ** 0.5
            for x in range(len(features[0][0]))
        ]
        for y in range(len(features[0]))
    ]


def shares(grid: list[list[float]]) -> list[list[float]]:
    """Divide by the sum; a grid of zeros becomes uniform."""
    total = sum(map(sum, grid))
    cells = len(grid) * len(grid[0])
    return [[value / total if total > 0 else 1 / cells for value in line] for line in grid]
