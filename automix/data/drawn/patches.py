"""Patches of scikit-learn's two photographs: which of 24 places does a view show?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from automix.core.extras import require
from automix.data import DATASETS, DatasetInfo, DataSource
from automix.data.drawn.drawing import LUMA, drawn_set, grainy, uniform
from automix.data.image_set import ImageSet

IMAGES = 7200

VIEW = 48
"""Pixels of a photograph along the side of a view at scale 1."""

PLACES = {
    "china.jpg": (
        *((67, 206), (121, 113), (127, 174), (117, 317), (204, 236), (239, 333), (276, 168)),
        *((319, 278), (374, 258), (296, 95), (233, 55), (186, 591), (344, 485), (229, 481)),
    ),
    "flower.jpg": (
        *((218, 300), (117, 242), (109, 352), (156, 415), (218, 428)),
        *((201, 182), (286, 344), (252, 240), (351, 223), (378, 419)),
    ),
}
"""Rows and columns of the centres: what looks like nothing else in either photograph."""


@dataclass(frozen=True, kw_only=True)
class Degree:
    """How far apart the views of one place are."""

    shift: float
    """Pixels of the photograph, at most, in either direction."""
    zoom: float
    """The view's side is divided or multiplied by at most this."""
    turn: float
    """Degrees, at most, to either side."""
    light: float
    """Brightness is moved by at most this."""
    contrast: float
    """Contrast is divided or multiplied by at most this."""
    fade: float
    """Share of the colour that is taken away, at most."""
    tint: float
    """Red, green and blue are moved by at most this, each by itself."""
    grain: float
    """Deviation of the noise on every pixel."""


DEGREES = {
    "easy": Degree(
        shift=4, zoom=1.1, turn=5, light=0.1, contrast=1.2, fade=0.3, tint=0.05, grain=0.02
    ),
    "medium": Degree(
        shift=8, zoom=1.25, turn=15, light=0.15, contrast=1.4, fade=1.0, tint=0.1, grain=0.04
    ),
    "hard": Degree(
        shift=14, zoom=1.5, turn=30, light=0.2, contrast=1.7, fade=1.0, tint=0.2, grain=0.06
    ),
}


@DATASETS.register(
    "patches", DatasetInfo(named=True, names=tuple(DEGREES), resizes=True, embedded=True)
)
def patches(source: DataSource) -> ImageSet:
    """Views of 24 places in two photographs that scikit-learn brings, RGB, no download.

    7 200 images: moved, turned, zoomed and lit from a fixed seed, at ``image_size`` (24 by
    default), in three degrees. Every image is a view of its own.
    """
    require("sklearn")
    return draw_patches(source, IMAGES)


def draw_patches(source: DataSource, images: int) -> ImageSet:
    """Draw about so many views, of each place as many as of the others."""
    from sklearn.datasets import load_sample_image  # late, as the digits

    degree = DEGREES[source.dataset.partition("/")[2]]
    scenes: list[tuple[Tensor, range, np.ndarray]] = []
    names: list[str] = []
    for file, places in PLACES.items():
        picture = torch.from_numpy(load_sample_image(file).copy()).permute(2, 0, 1).float() / 255
        scenes.append((picture, range(len(names), len(names) + len(places)), np.array(places)))
        names += [f"{file.partition('.')[0]} {number + 1}" for number in range(len(places))]

    def draw(labels: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
        views = np.empty((len(labels), 3, side, side), np.float32)
        for picture, classes, places in scenes:
            own = np.isin(labels, classes)
            if own.any():
                views[own] = _views(picture, places[labels[own] - classes[0]], degree, side, rng)
        return grainy(_lit(views, degree, rng), degree.grain, rng)

    return drawn_set(source, names, images // len(names), draw)


def _views(
    picture: Tensor, places: np.ndarray, degree: Degree, side: int, rng: np.random.Generator
) -> np.ndarray:
    """Return what is seen around places, (n, 3, side, side) float32."""
    count, size = len(places), np.array(picture.shape[:0:-1])  # x before y, as affine_grid
    centre = places[:, ::-1] + uniform(rng, -degree.shift, degree.shift, (count, 2))
    zoom = VIEW * np.float32(degree.zoom) ** uniform(rng, -1, 1, (count,))
    turn = np.deg2rad(uniform(rng, -degree.turn, degree.turn, (count,)))
    # From the view's square to the photograph's, both [-1, 1].
    cos, sin = zoom * np.cos(turn), zoom * np.sin(turn)
    rows = [[cos, -sin, 2 * centre[:, 0] + 1 - size[0]], [sin, cos, 2 * centre[:, 1] + 1 - size[1]]]
    theta = np.array(rows).transpose(2, 0, 1) / size[:, None]
    fine = -(-VIEW // side)  # about one point a pixel of the photograph
    shape = [count, 3, fine * side, fine * side]
    grid = F.affine_grid(torch.from_numpy(theta.astype(np.float32)), shape, align_corners=False)
    # One tall image, since all views are of one photograph.
    tall = grid.reshape(1, -1, fine * side, 2)
    seen = F.grid_sample(picture[None], tall, padding_mode="reflection", align_corners=False)
    views: np.ndarray = F.avg_pool2d(seen, fine)[0].reshape(3, count, side, side).numpy()
    return views.transpose(1, 0, 2, 3)


def _lit(views: np.ndarray, degree: Degree, rng: np.random.Generator) -> np.ndarray:
    """Return views under other light."""
    one = (len(views), 1, 1, 1)
    grey = np.einsum("ncyx,c->nyx", views, LUMA)[:, None]
    images = views + uniform(rng, 0, degree.fade, one) * (grey - views)
    contrast = np.float32(degree.contrast) ** uniform(rng, -1, 1, one)
    tint = uniform(rng, -degree.tint, degree.tint, (len(views), 3, 1, 1))
    mean = images.mean((1, 2, 3), keepdims=True)
    light = uniform(rng, -degree.light, degree.light, one)
    return mean + contrast * (images - mean) + light + tint
