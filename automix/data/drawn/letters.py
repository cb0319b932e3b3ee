"""Letters from fonts, in places: of many sizes, slants and colours, on cluttered ground."""

from __future__ import annotations

import string
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont

from automix.core.errors import ResourceError
from automix.core.extras import require
from automix.data import DATASETS, DatasetInfo, DataSource
from automix.data.drawn.drawing import centres, drawn_set, grainy, noise, two_colours, uniform
from automix.data.image_set import ImageSet

IMAGES = 7800

FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono", "STIXGeneral"),
    *("DejaVuSerif-Bold", "STIXGeneralBol", "cmr10", "cmss10", "cmtt10", "cmb10"),
    *("DejaVuSans-Oblique", "DejaVuSerif-Italic", "STIXGeneralItalic", "STIXGeneralBolIta"),
    *("DejaVuSerif-BoldItalic", "DejaVuSansMono-Bold", "cmti10", "cmmi10"),
)
"""Files that matplotlib brings, the plainest first."""

CANVAS, CAPITALS = 96, 1.8
"""Pixels of the square that a glyph is kept in, and how many capitals high it is."""

FINE = 3
"""Points a pixel and direction at which a glyph is sampled."""

SEEN = 0.02
"""Share of a pixel above which it counts as covered by the letter."""


@dataclass(frozen=True, kw_only=True)
class Degree:
    """How far apart the images of one letter are."""

    characters: str = string.ascii_uppercase
    """The classes."""
    fonts: int
    """Of ``FONTS``, so many."""
    height: tuple[float, float]
    """Of a capital, as a share of the image's side; wide letters are made to fit."""
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
# What looks like another character is left out: 0 and 1, and small letters that are small capitals.
DEGREES["mixed"] = replace(
    DEGREES["medium"], characters="23456789" + string.ascii_uppercase + "abdefghnqrt"
)


@DATASETS.register(
    "letters", DatasetInfo(named=True, names=tuple(DEGREES), resizes=True, embedded=True)
)
def letters(source: DataSource) -> ImageSet:
    """Capital letters drawn from matplotlib's fonts, RGB, no download.

    7 800 images of 26 classes, drawn from a fixed seed at ``image_size`` (24 by default), in three
    degrees; ``mixed`` is ``medium`` with digits and small letters, 45 classes. Every image is a
    draw of its own. ``ImageSet.boxes`` says where the letters stand.
    """
    require("matplotlib")
    return draw_letters(source, IMAGES)


def draw_letters(source: DataSource, images: int) -> ImageSet:
    """Draw about so many images, each class as often as the others."""
    degree = DEGREES[source.dataset.partition("/")[2]]
    glyphs = _glyphs(degree.characters)[: degree.fonts]
    boxes: list[np.ndarray] = []

    def draw(labels: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
        count = len(labels)
        cover = _placed(glyphs[rng.integers(degree.fonts, size=count), labels], degree, side, rng)
        boxes.append(_boxes(cover))
        ink, paper = two_colours(rng, count, degree.contrast, degree.tint, degree.swapped)
        images = _ground(paper, degree, side, rng)
        return grainy(images + cover[:, None] * (ink - images), degree.grain, rng)

    drawn = drawn_set(source, degree.characters, images // len(degree.characters), draw)
    return replace(drawn, boxes=np.concatenate(boxes))


@cache
def _glyphs(characters: str) -> np.ndarray:
    """Return (fonts, characters, CANVAS, CANVAS) uint8, each centred by its box."""
    from matplotlib import get_data_path  # late: other sets need not pay for it

    folder = Path(get_data_path(), "fonts", "ttf")
    glyphs = []
    for name in FONTS:
        try:
            font = _font(folder / f"{name}.ttf", 100)
            _, top, _, bottom = font.getbbox("H", anchor="ls")
            font = _font(folder / f"{name}.ttf", round(100 * CANVAS / CAPITALS / (bottom - top)))
        except OSError as error:
            raise ResourceError(
                f"{folder / name}.ttf: cannot be opened as a font: {error}",
                "matplotlib brings it: pip install --force-reinstall matplotlib",
            ) from error
        glyphs.append([_glyph(font, character) for character in characters])
    return np.array(glyphs)


def _font(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def _glyph(font: ImageFont.FreeTypeFont, character: str) -> np.ndarray:
    left, top, right, bottom = font.getbbox(character, anchor="ls")
    canvas = Image.new("L", (CANVAS, CANVAS))
    place = ((CANVAS - left - right) / 2, (CANVAS - top - bottom) / 2)
    ImageDraw.Draw(canvas).text(place, character, fill=255, font=font, anchor="ls")
    return np.asarray(canvas)


def _placed(glyphs: np.ndarray, degree: Degree, side: int, rng: np.random.Generator) -> np.ndarray:
    """Return how much of each pixel the letters cover, (n, side, side) in [0, 1]."""
    count = len(glyphs)
    size = CAPITALS * uniform(rng, *degree.height, (count,))
    turn = np.deg2rad(uniform(rng, -degree.turn, degree.turn, (count,)))
    slant = uniform(rng, -degree.slant, degree.slant, (count,))
    at = uniform(rng, -degree.roam, degree.roam, (count, 2))
    # From the glyph's square to the image's, both [-1, 1]: slanted, turned, and of its size.
    cos, sin = size * np.cos(turn), size * np.sin(turn)
    matrix = np.array([[cos, cos * slant - sin], [sin, sin * slant + cos]]).transpose(2, 0, 1)
    filled = glyphs > 0
    half = np.stack([1 - np.any(filled, axis).argmax(1) / (CANVAS / 2) for axis in (1, 2)], 1)
    reach = (np.abs(matrix) @ half[:, :, None])[:, :, 0]
    shrink = np.maximum(1, reach.max(1))[:, None]
    move = at * (1 - reach / shrink)
    back = np.linalg.inv(matrix / shrink[:, :, None])
    theta = np.concatenate([back, -back @ move[:, :, None]], 2).astype(np.float32)
    shape = [count, 1, FINE * side, FINE * side]
    grid = F.affine_grid(torch.from_numpy(theta), shape, align_corners=False)
    source = torch.from_numpy(glyphs).float()[:, None] / 255
    fine = F.grid_sample(source, grid, align_corners=False)
    cover: np.ndarray = F.avg_pool2d(fine, FINE)[:, 0].numpy()
    return cover


def _ground(paper: np.ndarray, degree: Degree, side: int, rng: np.random.Generator) -> np.ndarray:
    """Return what stands behind the letters, (n, 3, side, side) float32."""
    one = (len(paper), 1, 1)
    images = paper + np.float32(degree.ground) * noise(rng, len(paper), side, 1.5)[:, None]
    y, x = centres(side)
    for _ in range(degree.clutter):
        angle = uniform(rng, 0, np.pi, one)
        along = np.cos(angle) * x + np.sin(angle) * y - uniform(rng, -1, 1, one)
        across = np.cos(angle) * y - np.sin(angle) * x - uniform(rng, -1, 1, one)
        long, wide = uniform(rng, 0.05, 0.5, one), uniform(rng, 0.05, 0.15, one)
        outside = np.maximum(np.abs(along) - long, np.abs(across) - wide)
        bar = np.clip(0.5 - outside * side / 2, 0, 1)  # one pixel from full to nothing
        bar *= rng.integers(2, size=one)
        images += bar[:, None] * (paper + uniform(rng, -0.25, 0.25, paper.shape) - images)
    return images


def _boxes(cover: np.ndarray) -> np.ndarray:
    """Return the boxes around what is seen of the letters, (n, 4) int64: see ``ImageSet.boxes``."""
    seen = cover > SEEN
    edges = []
    for line in (np.asarray(seen.any(1)), np.asarray(seen.any(2))):  # columns, rows
        edges += [line.argmax(1), line.shape[1] - line[:, ::-1].argmax(1)]
    return np.stack(edges, 1)[:, [0, 2, 1, 3]]
