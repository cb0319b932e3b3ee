"""What the data tests share: small files, and the form that every refusal has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from automix.core.errors import AutomixError, DataError
from automix.data import DataSource, ImageSet, load


@contextmanager
def refused(*said: str, kind: type[AutomixError] = DataError, hint: str = "") -> Iterator[None]:
    """Expect a one-line refusal that says all of ``said`` and hints at a next step."""
    with pytest.raises(AutomixError) as caught:
        yield
    error = caught.value
    assert type(error) is kind, error
    assert "\n" not in error.message + error.hint
    assert [words for words in said if words not in error.message] == [], error.message
    assert error.hint
    assert hint in error.hint


def picture(seed: int, shape: tuple[int, ...] = (6, 5, 3)) -> np.ndarray:
    """Return a noise image (h, w, c) or (h, w), uint8."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save_picture(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    """Write an image file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def class_folders(root: Path, *, each: int = 3, names: tuple[str, ...] = ("cat", "dog")) -> Path:
    """Write ``each`` noise images of 6x5 (h x w) for each class; image i of class k has seed
    10 k + i."""
    for k, name in enumerate(names):
        for i in range(each):
            save_picture(root / name / f"{i}.png", picture(10 * k + i))
    return root


def load_folder(root: Path, **settings: Any) -> ImageSet:
    return load(DataSource(dataset="folder", root=str(root), **settings))


def pixels_of(images: ImageSet) -> np.ndarray:
    """Return all images, (n, h, w, c), in units of uint8."""
    everything = images.pixels.read(np.arange(len(images.labels)))
    return (everything * 255).numpy().transpose(0, 2, 3, 1)
