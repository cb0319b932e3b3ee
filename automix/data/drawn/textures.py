"""Textures made from formulas: turned, scaled, moved, warped and coloured at random."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from automix.data import DATASETS, DatasetInfo, DataSource
from automix.data.drawn.drawing import centres, drawn_set, grainy, noise, two_colours, uniform
from automix.data.image_set import ImageSet

IMAGES = 8000

FINE = 2
"""Points a pixel and direction at which a formula is computed."""

Texture = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
"""Coordinates u and v in periods, (n, s, s), and a source of random numbers -> values in [-1, 1].

The point (0, 0) is somewhere inside the image; what has a centre has it there."""


@dataclass(frozen=True, kw_only=True)
class Degree:
    """How far apart the images of one texture are."""

    periods: tuple[float, float]
    """Across the image."""
    turn: float
    """Degrees, at most, to either side."""
    warp: float
    """How far a point is moved by smooth noise, in half sides of the image."""
    contrast: float
    """Least difference of brightness between the two colours."""
    tint: float
    """How far red, green and blue of either may be from their brightness."""
    shade: float
    """Deviation of smooth light and shadow over the image."""
    grain: float
    """Deviation of the noise on every pixel."""


DEGREES = {
    "easy": Degree(
        periods=(2.5, 3.5), turn=15, warp=0.0, contrast=0.6, tint=0.2, shade=0.0, grain=0.03
    ),
    "medium": Degree(
        periods=(2, 4.5), turn=90, warp=0.03, contrast=0.4, tint=0.4, shade=0.05, grain=0.06
    ),
    "hard": Degree(
        periods=(2, 5), turn=90, warp=0.05, contrast=0.25, tint=0.4, shade=0.08, grain=0.08
    ),
}


def _wave(phase: np.ndarray) -> np.ndarray:
    return np.sin(2 * np.pi * phase)


def _triangle(phase: np.ndarray) -> np.ndarray:
    """Go from 0 to 1 and back once a period."""
    return np.abs(2 * (phase - np.floor(phase)) - 1)


def _apart(phase: np.ndarray) -> np.ndarray:
    """Return the distance to the next whole number."""
    return np.abs(phase - np.round(phase))


def _sides(inside: np.ndarray) -> np.ndarray:
    return np.where(inside, np.float32(1), np.float32(-1))


def _bricks(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    row = np.floor(v)
    joint = np.minimum(2 * _apart(u / 2 + row / 2), _apart(v))
    return _sides(joint > 0.12)


def _cells(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Return the distances to the nearest and second seed, and the nearest one's own number."""
    count, size = len(u), 32
    seeds = rng.uniform(0, 1, (3, count, size, size)).astype(np.float32)
    image = np.arange(count)[:, None, None]
    column, row = np.floor(u).astype(int), np.floor(v).astype(int)
    first = np.full(u.shape, np.inf, np.float32)
    second, value = first.copy(), np.zeros_like(first)
    for right in (-1, 0, 1):
        for below in (-1, 0, 1):
            at = image, (row + below) % size, (column + right) % size
            du, dv = column + right + seeds[0][at] - u, row + below + seeds[1][at] - v
            away = np.hypot(du, dv)
            value = np.where(away < first, seeds[2][at], value)
            second = np.minimum(second, np.maximum(first, away))
            first = np.minimum(first, away)
    return first, second, value


def _field(u: np.ndarray, rng: np.random.Generator, exponent: float) -> np.ndarray:
    return np.clip(noise(rng, len(u), u.shape[1], exponent) / 2, -1, 1)


def _labyrinth(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sum waves of one length and every direction: a Turing pattern."""
    total = np.zeros_like(u)
    for _ in range(12):
        angle, phase = rng.uniform(0, 1, (2, len(u), 1, 1)).astype(np.float32)
        angle = np.pi * angle
        total += _wave(np.cos(angle) * u + np.sin(angle) * v + phase)
    return np.clip(total, -1, 1)


def _mosaic(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return 2 * _cells(u, v, rng)[2] - 1


def _cracks(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    first, second, _ = _cells(u, v, rng)
    return _sides(second - first > 0.15)


TEXTURES: dict[str, Texture] = {
    "bricks": _bricks,
    "checkers": lambda u, v, rng: _sides(_wave(u / 2) * _wave(v / 2) > 0),
    "clouds": lambda u, v, rng: _field(u, rng, 1.5),
    "cracks": _cracks,
    "dots": lambda u, v, rng: _sides(np.hypot(_apart(u), _apart(v)) < 0.3),
    "grid": lambda u, v, rng: _sides(np.minimum(_apart(u), _apart(v)) < 0.12),
    "labyrinth": _labyrinth,
    "mosaic": _mosaic,
    "plaid": lambda u, v, rng: (_wave(u) + _wave(v)) / 2,
    "rings": lambda u, v, rng: _wave(np.hypot(u, v)),
    "sand": lambda u, v, rng: _field(u, rng, 0.3),
    "spiral": lambda u, v, rng: _wave(np.hypot(u, v) + np.arctan2(v, u) / (2 * np.pi)),
    "spokes": lambda u, v, rng: _wave(4 * np.arctan2(v, u) / (2 * np.pi)),
    "stripes": lambda u, v, rng: _wave(u),
    "waves": lambda u, v, rng: _wave(u + 0.25 * _wave(v / 2)),
    "zigzag": lambda u, v, rng: _sides(_wave(u + _triangle(v / 2)) > 0),
}


@DATASETS.register(
    "textures", DatasetInfo(named=True, names=tuple(DEGREES), resizes=True, embedded=True)
)
def textures(source: DataSource) -> ImageSet:
    """Sixteen textures made from formulas, RGB, no download.

    8 000 images, drawn from a fixed seed at ``image_size`` (24 by default), in three degrees.
    Every image is a draw of its own.
    """
    return draw_textures(source, IMAGES)


def draw_textures(source: DataSource, images: int) -> ImageSet:
    """Draw about so many images, each class as often as the others."""
    degree = DEGREES[source.dataset.partition("/")[2]]

    def draw(labels: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
        drawn = np.empty((len(labels), 3, side, side), np.float32)
        for label, texture in enumerate(TEXTURES.values()):
            own = labels == label
            if own.any():
                drawn[own] = _images(texture, int(own.sum()), degree, side, rng)
        return drawn

    return drawn_set(source, list(TEXTURES), images // len(TEXTURES), draw)


def _images(
    texture: Texture, count: int, degree: Degree, side: int, rng: np.random.Generator
) -> np.ndarray:
    """Return images of one class, (n, 3, side, side) float32."""
    fine, one = side * FINE, (count, 1, 1)
    y, x = centres(fine)
    turn = np.deg2rad(uniform(rng, -degree.turn, degree.turn, one))
    least, most = degree.periods
    scale = np.float32(least / 2) * np.float32(most / least) ** uniform(rng, 0, 1, one)
    x, y = (axis - uniform(rng, -0.5, 0.5, one) for axis in (x, y))
    if degree.warp:
        x, y = (axis + np.float32(degree.warp) * noise(rng, count, fine, 2) for axis in (x, y))
    u = scale * (np.cos(turn) * x + np.sin(turn) * y)
    v = scale * (np.cos(turn) * y - np.sin(turn) * x)
    share = (texture(u, v, rng).reshape(count, 1, side, FINE, side, FINE).mean((3, 5)) + 1) / 2
    first, second = two_colours(rng, count, degree.contrast, degree.tint, 0.5)
    shade = np.float32(degree.shade) * noise(rng, count, side, 2)[:, None]
    return grainy(second + share * (first - second) + shade, degree.grain, rng)
