"""Letters, textures and patches: drawn from one seed, with nothing to fetch."""

from __future__ import annotations

import numpy as np

from automix.core.errors import ConfigError
from automix.data import DataSource, letters, load, patches, textures
from automix.data.tasks import load_once
from tests.automix.data.checks import refused
from tests.cases import each

DRAWN = {"letters": letters, "patches": patches, "textures": textures}
FORMS = {"letters": (26, 300), "patches": (24, 300), "textures": (16, 500)}
"""Classes, and images of each."""


@each("kind", list(DRAWN))
def test_drawn_sets_are_rgb_balanced_and_fill_the_range(kind):
    classes, each = FORMS[kind]
    images = load_once(DataSource(dataset=f"{kind}/medium", image_size=16))
    pixels = images.pixels.read(np.arange(len(images.labels)))
    assert pixels.shape == (classes * each, 3, 16, 16)
    assert images.shape == (3, 16, 16)
    assert np.bincount(images.labels).tolist() == [each] * classes
    assert len(images.class_names) == classes
    assert (float(pixels.min()), float(pixels.max())) == (0, 1)
    assert 0.2 < float(pixels.mean()) < 0.6
    assert images.test is None  # every image is a draw of its own, so any part will do
    flat = pixels.flatten(1).numpy()
    assert len(np.unique(flat, axis=0)) == len(flat)


@each("kind", list(DRAWN))
def test_the_side_is_the_one_asked_for_or_24(kind, monkeypatch):
    monkeypatch.setattr(DRAWN[kind], "EACH", 2)
    for asked, side in ((0, 24), (12, 12), (33, 33)):
        assert load(DataSource(dataset=f"{kind}/easy", image_size=asked)).shape == (3, side, side)
    for wrong in (11, 65):
        with refused(f"image_size is {wrong}", "12 to 64", kind=ConfigError, hint="24"):
            load(DataSource(dataset=f"{kind}/easy", image_size=wrong))


@each("kind", list(DRAWN))
def test_a_set_is_the_same_each_time_and_each_degree_another(kind, monkeypatch):
    monkeypatch.setattr(DRAWN[kind], "EACH", 2)
    everything = np.arange(2 * FORMS[kind][0])
    first, again, other = (
        load(DataSource(dataset=f"{kind}/{degree}")) for degree in ("easy", "easy", "hard")
    )
    assert (first.pixels.read(everything) == again.pixels.read(everything)).all()
    assert (first.labels == again.labels).all()
    assert (first.pixels.read(everything) != other.pixels.read(everything)).any()
