"""A small picture of each method, by the gallery."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch.nn.functional as F

from automix.agents.config.compose import load_settings
from automix.agents.gallery.rows import rows_of
from automix.agents.gallery.scene import build_scene, draw_task, mix_rows
from automix.agents.gallery.sheet import sheet_png
from automix.data.image_set import InMemory
from automix.mixes import MIXES
from automix.mixing.actions import OFF
from automix.mixing.batch import MixSettings
from tools.mix_pages.shares import RATIOS, drawn

IMAGES, GUIDES = 4, (OFF, "gradient")

SIDE = 16
"""Pixels to which the digits are enlarged: on 8 the outline of a mask cannot be seen."""

SHARES = MixSettings(concentration=50.0)
"""Near the ratio, so that the rows differ by what they are asked for."""

COLOURS = 128
"""Enough to look right, in a file of some ten kilobytes."""


def pictured() -> list[str]:
    """Return the methods that have a picture."""
    return [name for name in MIXES if drawn(name)]


def pictures() -> Iterator[tuple[str, bytes]]:
    """Yield the file name and the picture of each method that has one."""
    settings = load_settings(["task=digits", "device=cpu"])
    task = draw_task(settings)
    small = task.images.pixels.read(np.arange(len(task.images.labels)))
    large = InMemory(F.interpolate(small, size=SIDE, mode="bilinear"))
    images = replace(task.images, pixels=large, shape=(1, SIDE, SIDE))
    scene = build_scene(replace(task, images=images), settings, IMAGES)
    for name in pictured():
        shots, _ = mix_rows(scene, rows_of([name], RATIOS, GUIDES), SHARES)
        yield f"{name}.png", sheet_png(scene, shots, palette=COLOURS)
