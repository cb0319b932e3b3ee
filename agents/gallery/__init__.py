"""The gallery: every mix on the same few images, to be looked at.

``rows`` says what is drawn, ``scene`` holds the images and mixes them, ``sheet`` draws.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from automix.agents.config.settings import RunSettings
from automix.agents.gallery.rows import RATIOS, rows_of
from automix.core.errors import ConfigError, ResourceError
from automix.core.extras import require
from automix.core.files import write_bytes


@dataclass(frozen=True)
class Gallery:
    """What was drawn."""

    path: Path
    rows: tuple[str, ...]
    """Actions, from top to bottom."""
    skipped: Mapping[str, str]
    """Actions that could not be carried out on these images, and why."""


def write_gallery(
    out: Path,
    settings: RunSettings,
    mixes: Sequence[str] = (),
    ratios: Sequence[float] = RATIOS,
    saliency: Sequence[str] = (),
) -> Gallery:
    """Draw mixes on eight training images of a task: pictures, masks, saliency maps and labels.

    Saliency comes from a classifier of ``settings.trainer`` that is trained for two plain epochs
    first. How an action is carried out is ``settings.trainer.mix``. Equal settings give an equal
    picture.

    Args:
        out: The PNG file to write.
        settings: Task, trainer, device and seed.
        mixes: As ``rows_of`` takes them; default all.
        ratios: The same.
        saliency: The same; default all, and unguided.

    Raises:
        ConfigError: If a name or ratio cannot be used, or ``out`` is no PNG file.
        DataError: If the images cannot be used.
        ResourceError: If ``out`` cannot be written.
    """
    require("matplotlib")
    # Here, not above: matplotlib takes a second to import, which no other command should wait for.
    from automix.agents.gallery.scene import EPOCHS, build_scene, draw_task, mix_rows
    from automix.agents.gallery.sheet import sheet_png

    _check(out)
    rows = rows_of(mixes, ratios, saliency)
    scene = build_scene(draw_task(settings), settings)
    shots, skipped = mix_rows(scene, rows)
    caption = (
        f"{scene.task.images.name}, seed {settings.seed}.  Saliency that asks a classifier: "
        f"{settings.trainer.model} after {EPOCHS} plain epochs "
        f"({100 * scene.accuracy:.0f} % right on validation)."
    )
    write_bytes(out, sheet_png(scene, shots, caption))
    return Gallery(out, tuple(str(shot.row.action) for shot in shots), skipped)


def _check(out: Path) -> None:
    """Refuse before the work what could only fail after it."""
    if out.suffix.lower() != ".png":
        raise ConfigError(f"--out is {out}, wanted a file that ends in .png")
    if out.is_dir():
        raise ConfigError(f"--out is {out}, which is a folder, wanted a file that ends in .png")
    there = next(folder for folder in out.absolute().parents if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ResourceError(
            f"{out} cannot be written: {there} is no folder that can be written to",
            "choose another place with --out",
        )
