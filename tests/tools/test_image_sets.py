"""The pictures of the image sets show what is drawn now."""

from __future__ import annotations

import numpy as np
from PIL import Image

from tests.cases import named
from tools.image_sets import FOLDER, pictures


def test_the_pictures_are_what_would_be_drawn_now():
    """Nearly, as rounding may differ; write them with ``python -m tools.image_sets``."""
    drawn = dict(pictures())
    assert set(drawn) == {path.name for path in FOLDER.iterdir()}
    for name, picture in drawn.items():
        with named(name), Image.open(FOLDER / name) as file:
            kept, now = (np.asarray(image.convert("RGB"), int) for image in (file, picture))
            assert kept.shape == now.shape
            assert np.abs(kept - now).mean() < 4
