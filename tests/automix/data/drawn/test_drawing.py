"""Letters, textures and patches: drawn from one seed, with nothing to fetch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from automix.core.errors import ConfigError, ResourceError
from automix.data import DATASETS, DataSource, load
from automix.data.drawn import letters, patches, textures
from tests.automix.data.checks import refused
from tests.cases import each, named

MODULES = {"letters": letters, "patches": patches, "textures": textures}
CLASSES = {"letters": 26, "letters/mixed": 45, "patches": 24, "textures": 16}
SETS = [f"{kind}/{name}" for kind in MODULES for name in DATASETS.info(kind).names]
PLAIN = {"fonts": 19, "height": (0.3, 1.0), "tint": 0.0, "ground": 0.0, "clutter": 0, "grain": 0.0}

FIRST = {
    "letters/easy": ([20, 14, 19, 18, 15, 18], [59, 43, 74, 47, 61, 83]),
    "letters/medium": ([13, 2, 10, 16, 17, 5], [50, 57, 97, 118, 54, 34]),
    "letters/hard": ([11, 10, 17, 3, 12, 15], [68, 112, 149, 156, 184, 208]),
    "letters/mixed": ([13, 9, 19, 10, 30, 35], [94, 113, 110, 148, 145, 54]),
    "patches/easy": ([18, 8, 11, 19, 8, 20], [100, 114, 152, 112, 86, 106]),
    "patches/medium": ([2, 9, 19, 16, 15, 17], [57, 71, 144, 121, 118, 158]),
    "patches/hard": ([15, 6, 7, 1, 21, 10], [164, 87, 122, 112, 152, 168]),
    "textures/easy": ([13, 0, 9, 13, 5, 7], [122, 148, 136, 137, 120, 139]),
    "textures/medium": ([15, 8, 8, 6, 10, 15], [113, 172, 124, 121, 119, 88]),
    "textures/hard": ([0, 13, 4, 6, 2, 2], [107, 117, 191, 122, 91, 163]),
}
"""Of a set of 96 images."""


@pytest.fixture
def few(monkeypatch):
    """Let all sets be smaller."""
    for module in MODULES.values():
        monkeypatch.setattr(module, "IMAGES", 96)


def drawn(name, side=0):
    """Return a set and its pixels, (n, 3, h, w) in [0, 255]."""
    images = load(DataSource(dataset=name, image_size=side))
    return images, images.pixels.images.numpy().astype(int)


def test_a_set_has_as_many_images_as_it_says_all_of_them_different():
    for name, each_class in (("letters/easy", 300), ("patches/easy", 300), ("textures/easy", 500)):
        with named(name):
            images, pixels = drawn(name, side=12)
            assert set(np.bincount(images.labels)) == {each_class}
            assert len(np.unique(pixels.reshape(len(pixels), -1), axis=0)) == len(pixels)
            assert images.test is None  # any part will do: every image is a draw of its own


def test_every_degree_is_rgb_and_balanced_and_uses_the_range(few):
    for name in SETS:
        with named(name):
            images, pixels = drawn(name)
            classes = CLASSES.get(name, CLASSES[name.partition("/")[0]])
            assert len(images.class_names) == classes
            assert np.bincount(images.labels).tolist() == [96 // classes] * classes
            assert pixels.shape == (96 // classes * classes, 3, 24, 24)
            assert (pixels.min() < 20) & (pixels.max() > 235)
            assert 0.2 < pixels.mean() / 255 < 0.6
            assert (pixels.std((1, 2, 3)) > 2).all()  # none is empty
            assert (np.ptp(pixels, 1).mean() > 5).all()  # none is grey


def test_a_set_is_the_same_in_every_process(few):
    """The first labels, and each first image's mean: where rounding differs, nearly so."""
    for name, (first_labels, first_means) in FIRST.items():
        with named(name):
            images, pixels = drawn(name)
            assert images.labels[:6].tolist() == first_labels
            np.testing.assert_allclose(pixels[:6].mean((1, 2, 3)), first_means, atol=2)
            assert (pixels == drawn(name)[1]).all()


@each("kind", list(MODULES))
def test_other_sides_show_the_same_classes(kind, monkeypatch):
    monkeypatch.setattr(MODULES[kind], "IMAGES", 96)
    for side in (12, 33, 64):
        images, pixels = drawn(f"{kind}/hard", side)
        assert images.shape == (3, side, side) == pixels.shape[1:]
    for wrong in (11, 65):
        with refused(f"image_size is {wrong}", "12 to 64", kind=ConfigError, hint="24"):
            drawn(f"{kind}/easy", wrong)


def test_a_box_is_the_smallest_that_holds_the_letter(few, monkeypatch):
    """Bright letters on plain grounds: what differs from a corner of the image is the letter."""
    for degree in letters.DEGREES:
        plain = replace(letters.DEGREES[degree], **PLAIN, roam=1.0, swapped=0.0, contrast=0.9)
        monkeypatch.setitem(letters.DEGREES, degree, plain)
        for side in (16, 32):
            images, pixels = drawn(f"letters/{degree}", side)
            grey = pixels[:, 0]
            assert images.boxes.shape == (len(grey), 4)
            for number, box in enumerate(images.boxes):
                rows, columns = np.nonzero(grey[number] > grey[number].min() + 4)
                found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                with named(degree, side, number, box, found):
                    assert np.abs(box - found).max() <= 1
                    left, top, right, bottom = box
                    outside = grey[number].copy()
                    outside[top:bottom, left:right] = 0
                    assert outside.max() <= grey[number].min() + 6


def test_other_sets_know_no_boxes(few):
    assert all(
        load(DataSource(dataset=f"{kind}/easy")).boxes is None for kind in ("patches", "textures")
    )


def test_a_font_that_is_missing_is_named_in_one_line(monkeypatch):
    monkeypatch.setattr(letters, "FONTS", ("DejaVuSans", "Comic"))
    letters._glyphs.cache_clear()
    with refused("Comic.ttf", "font", kind=ResourceError, hint="matplotlib"):
        drawn("letters/easy")


def test_every_font_draws_every_character_inside_its_canvas():
    glyphs = letters._glyphs(letters.DEGREES["mixed"].characters)
    assert glyphs.any((2, 3)).all()
    edges = [glyphs[:, :, [0, -1]], glyphs[:, :, :, [0, -1]]]
    assert not any(edge.any() for edge in edges)
    assert all(len(np.unique(font.reshape(len(font), -1), axis=0)) == len(font) for font in glyphs)
