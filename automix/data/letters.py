"""Letters from fonts, in places: of many sizes, slants and colours, on cluttered ground."""

from __future__ import annotations

import string
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont

from automix.core.extras import require
from automix.core.seeding import generator
from automix.data import DATASETS, DatasetInfo, DataSource
from automix.data.drawing import as_bytes, centres, noise, pieces, side_of, two_colours
from automix.data.image_set import ImageSet, InMemory

SEED = 0
EACH = 300
"""Images of a class."""

FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono", "STIXGeneral"),
    *("DejaVuSerif-Bold", "STIXGeneralBol", "cmr10", "cmss10", "cmtt10", "cmb10"),
    *("DejaVuSans-Oblique", "DejaVuSerif-Italic", "STIXGeneralItalic", "STIXGeneralBolIta"),
    *("DejaVuSerif-BoldItalic", "DejaVuSansMono-Bold", "cmti10", "cmmi10"),
)
"""Files that matplotlib brings, the plainest first."""

CANVAS = 96
"""Pixels of the square that a glyph is kept in, which is 1.6 capitals high."""

FINE = 3
"""Points a pixel and direction at which a letter is sampled."""

SEEN = 0.02
"""Share of a pixel above which it counts as covered by the letter."""


@dataclass(frozen=True, kw_only=True)
class Degree:
    """How far apart the images of one letter are."""

    fonts: int
    """Of ``FONTS``, so many."""
    height: tuple[float, float]
    """Of a capital, as a share of the image's side."""
    roam: float
    """Share of the room around it in which a letter is placed: 0 is the centre, 1 anywhere."""
    turn: float
    """Degrees, at most, to either side."""
    slant: float
    """Shear, at most, to either side."""
    contrast: float
    """Least difference of brightness between letter and ground."""
    tint: float
    """How far red, green and blue of either may be from their brightness."""
    swapped: float
    """Share of letters that are darker than their ground."""
    ground: float
    """Deviation of the ground's brightness within an image."""
    clutter: int
    """Bars across the ground, at most."""
    grain: float
    """Deviation of the noise on every pixel."""


DEGREES = {
    "easy": Degree(
        fonts=3, height=(0.6, 0.7), roam=0.2, turn=4, slant=0.05, contrast=0.6, tint=0.2,
        swapped=0.0, ground=0.02, clutter=0, grain=0.02,
    ),
    "medium": Degree(
        fonts=11, height=(0.55, 0.75), roam=0.4, turn=8, slant=0.15, contrast=0.4, tint=0.4,
        swapped=0.0, ground=0.05, clutter=1, grain=0.03,
    ),
    "hard": Degree(
        fonts=19, height=(0.5, 0.75), roam=0.8, turn=12, slant=0.2, contrast=0.3, tint=0.5,
        swapped=0.5, ground=0.06, clutter=2, grain=0.04,
    ),
}  # fmt: skip


@DATASETS.register("letters", DatasetInfo(named=True, names=tuple(DEGREES), resizes=True))
def letters(source: DataSource) -> ImageSet:
    """Capital letters drawn from matplotlib's fonts, RGB, no download.

    7 800 images of 26 classes, 300 each, drawn anew from one fixed seed at ``image_size`` (24 by
    default), in three degrees. ``ImageSet.boxes`` says where each letter stands.
    """
    require("matplotlib")
    name = source.dataset.partition("/")[2]
    side = side_of(source, 24)
    images, boxes, labels = _draw(DEGREES[name], side, generator(SEED, "letters", name))
    return ImageSet(
        name=source.dataset,
        pixels=InMemory(as_bytes(images)),
        labels=labels,
        class_names=tuple(string.ascii_uppercase),
        shape=(3, side, side),
        boxes=boxes,
        memory_limit_gb=source.memory_limit_gb,
    )


def _draw(
    degree: Degree, side: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return images (n, 3, h, w) float32, boxes (n, 4) and labels (n,)."""
    glyphs = _glyphs()[: degree.fonts]
    labels = rng.permutation(np.repeat(np.arange(glyphs.shape[1]), EACH))
    count = len(labels)
    cover = _placed(glyphs[rng.integers(degree.fonts, size=count), labels], degree, side, rng)
    ink, paper = two_colours(rng, count, degree.contrast, degree.tint, degree.swapped)
    images = _ground(paper, degree, side, rng)
    images += cover[:, None] * (ink[:, :, None, None] - images)
    images += degree.grain * rng.standard_normal(images.shape, dtype=np.float32)
    return images, _boxes(cover), labels


@cache
def _glyphs() -> np.ndarray:
    """Return the letters of every font, (fonts, 26, CANVAS, CANVAS) uint8, centred by their box."""
    from matplotlib import get_data_path  # late: other sets need not pay for it

    folder = Path(get_data_path(), "fonts", "ttf")
    fonts = []
    for name in FONTS:
        path = str(folder / f"{name}.ttf")
        first = ImageFont.truetype(path, 100, layout_engine=ImageFont.Layout.BASIC)
        _, top, _, bottom = first.getbbox("H", anchor="ls")
        size = round(100 * CANVAS / 1.6 / (bottom - top))
        font = ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
        fonts.append([_glyph(font, letter) for letter in string.ascii_uppercase])
    return np.array(fonts)


def _glyph(font: ImageFont.FreeTypeFont, letter: str) -> np.ndarray:
    left, top, right, bottom = font.getbbox(letter, anchor="ls")
    canvas = Image.new("L", (CANVAS, CANVAS))
    place = ((CANVAS - left - right) / 2, (CANVAS - top - bottom) / 2)
    ImageDraw.Draw(canvas).text(place, letter, fill=255, font=font, anchor="ls")
    return np.asarray(canvas)


def _placed(glyphs: np.ndarray, degree: Degree, side: int, rng: np.random.Generator) -> np.ndarray:
    """Return how much of each pixel the letters cover, (n, side, side) in [0, 1]."""
    count = len(glyphs)
    scale = 1.6 * rng.uniform(*degree.height, count)
    turn = np.deg2rad(rng.uniform(-degree.turn, degree.turn, count))
    slant = rng.uniform(-degree.slant, degree.slant, count)
    shift = rng.uniform(-1, 1, (count, 2)) * degree.roam
    # From the glyph's square to the image's, both [-1, 1]: slanted, then turned, then scaled.
    cos, sin, one, zero = np.cos(turn), np.sin(turn), np.ones(count), np.zeros(count)
    turned = np.array([[cos, -sin], [sin, cos]]).transpose(2, 0, 1)
    slanted = np.array([[one, slant], [zero, one]]).transpose(2, 0, 1)
    matrix = scale[:, None, None] * (turned @ slanted)
    filled = glyphs > 0
    across, down = ((filled.any(axis).argmax(1) / CANVAS * 2 - 1) for axis in (1, 2))
    corners = np.array([[[x, y] for x in (-1, 1)] for y in (-1, 1)]).reshape(4, 2)
    half = np.abs(matrix @ (corners * np.stack([across, down], 1)[:, None]).transpose(0, 2, 1))
    move = shift * np.clip(1 - half.max(2), 0, None)
    back = np.linalg.inv(matrix)
    theta = np.concatenate([back, -back @ move[:, :, None]], 2).astype(np.float32)
    cover = np.empty((count, side, side), np.float32)
    for piece in pieces(count):
        grid = F.affine_grid(
            torch.from_numpy(theta[piece]), [len(theta[piece]), 1, FINE * side, FINE * side], False
        )
        source = torch.from_numpy(glyphs[piece]).float()[:, None] / 255
        fine = F.grid_sample(source, grid, align_corners=False)
        cover[piece] = F.avg_pool2d(fine, FINE)[:, 0].numpy()
    return cover


def _ground(paper: np.ndarray, degree: Degree, side: int, rng: np.random.Generator) -> np.ndarray:
    """Return what stands behind the letters, (n, 3, side, side) float32."""
    count = len(paper)
    clouds = degree.ground * noise(rng, count, side, 1.5)
    images = np.repeat(paper[:, :, None, None], side, 2).repeat(side, 3) + clouds[:, None]
    y, x = centres(side)
    for _ in range(degree.clutter):
        angle = rng.uniform(0, np.pi, (count, 1, 1)).astype(np.float32)
        along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        at = rng.uniform(-1, 1, (2, count, 1, 1)).astype(np.float32)
        size = rng.uniform(0.05, [[0.5], [0.15]], (2, count))[:, :, None, None].astype(np.float32)
        edge = np.maximum(np.abs(along - at[0]) - size[0], np.abs(across - at[1]) - size[1])
        bar = np.clip(0.5 - edge * side / 2, 0, 1)  # one pixel from full to nothing
        bar *= rng.integers(2, size=(count, 1, 1))
        colour = paper + rng.uniform(-0.25, 0.25, paper.shape).astype(np.float32)
        images += bar[:, None] * (colour[:, :, None, None] - images)
    return images


def _boxes(cover: np.ndarray) -> np.ndarray:
    """Return the boxes around what is seen of the letters, (n, 4) int64: see ``ImageSet.boxes``."""
    seen = cover > SEEN
    edges = []
    for line in (np.asarray(seen.any(1)), np.asarray(seen.any(2))):  # columns, rows
        edges += [line.argmax(1), line.shape[1] - line[:, ::-1].argmax(1)]
    return np.stack(edges, 1)[:, [0, 2, 1, 3]]
