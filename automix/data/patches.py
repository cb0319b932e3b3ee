"""Patches of scikit-learn's two photographs: which of 24 places does a view show?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from automix.core.extras import require
from automix.core.seeding import generator
from automix.data import DATASETS, DatasetInfo, DataSource
from automix.data.drawing import LUMA, as_bytes, pieces, side_of
from automix.data.image_set import ImageSet, InMemory

SEED = 0
EACH = 300
"""Views of a place."""

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


@DATASETS.register("patches", DatasetInfo(named=True, names=tuple(DEGREES), resizes=True))
def patches(source: DataSource) -> ImageSet:
    """Views of 24 places in two photographs that scikit-learn brings, RGB, no download.

    7 200 images, 300 of each place: moved, turned, zoomed and lit anew from one fixed seed, at
    ``image_size`` (24 by default), in three degrees.
    """
    require("sklearn")
    from sklearn.datasets import load_sample_image  # late, as the digits

    name = source.dataset.partition("/")[2]
    degree, side = DEGREES[name], side_of(source, 24)
    rng = generator(SEED, "patches", name)
    parts = []
    for file, places in PLACES.items():
        photograph = load_sample_image(file).astype(np.float32) / 255
        parts.append(_views(photograph, np.repeat(places, EACH, 0), degree, side, rng))
    classes = [f"{file[:-4]} {i + 1}" for file in PLACES for i in range(len(PLACES[file]))]
    images = _lit(np.concatenate(parts), degree, rng)
    order = rng.permutation(len(images))
    return ImageSet(
        name=source.dataset,
        pixels=InMemory(as_bytes(images[order])),
        labels=np.repeat(np.arange(len(classes)), EACH)[order],
        class_names=tuple(classes),
        shape=(3, side, side),
        memory_limit_gb=source.memory_limit_gb,
    )


def _views(
    photograph: np.ndarray,
    places: np.ndarray,
    degree: Degree,
    side: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return what is seen around places, (n, 3, side, side) float32."""
    size, count = np.array(photograph.shape[:2]), len(places)
    centre = places + rng.uniform(-degree.shift, degree.shift, (count, 2))
    zoom = degree.zoom ** rng.uniform(-1, 1, count) * VIEW
    turn = np.deg2rad(rng.uniform(-degree.turn, degree.turn, count))
    # affine_grid wants x before y, and the photograph as [-1, 1] along either.
    cos, sin = np.cos(turn), np.sin(turn)
    matrix = np.stack([cos, -sin, sin, cos], 1).reshape(-1, 2, 2) * zoom[:, None, None]
    moved = 2 * centre[:, ::-1] + 1 - size[::-1]
    both = np.concatenate([matrix, moved[:, :, None]], 2) / size[::-1, None]
    theta = torch.from_numpy(both.astype(np.float32))
    source = torch.from_numpy(photograph).permute(2, 0, 1)[None]
    fine = -(-VIEW // side)  # about one point a pixel of the photograph
    views = np.empty((count, 3, side, side), np.float32)
    for piece in pieces(count):
        shape = [len(theta[piece]), 3, fine * side, fine * side]
        grid = F.affine_grid(theta[piece], shape, align_corners=False)
        # One tall image, since all views are of one photograph.
        seen = F.grid_sample(
            source, grid.reshape(1, -1, shape[3], 2), padding_mode="reflection", align_corners=False
        )
        seen = seen.reshape(3, *shape[0:1], *shape[2:]).transpose(0, 1)
        views[piece] = F.avg_pool2d(seen, fine).numpy()
    return views


def _lit(views: np.ndarray, degree: Degree, rng: np.random.Generator) -> np.ndarray:
    """Return views under changed light."""
    count = len(views)
    one = (count, 1, 1, 1)
    fade = rng.uniform(0, degree.fade, one).astype(np.float32)
    contrast = (degree.contrast ** rng.uniform(-1, 1, one)).astype(np.float32)
    light = rng.uniform(-degree.light, degree.light, count)
    tint = rng.uniform(-degree.tint, degree.tint, (count, 3)) + light[:, None]
    grey = np.einsum("ncyx,c->nyx", views, LUMA.astype(np.float32))[:, None]
    images = views + fade * (grey - views)
    mean = images.mean((1, 2, 3), keepdims=True)
    images = mean + contrast * (images - mean) + tint.astype(np.float32)[:, :, None, None]
    return images + degree.grain * rng.standard_normal(images.shape, dtype=np.float32)
