"""The pictures of ``docs/image_sets.md``: python -m tools.image_sets."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from automix.core.files import write_bytes
from automix.data import DATASETS, DataSource, ImageSet
from automix.data.drawn.letters import draw_letters
from automix.data.drawn.patches import draw_patches
from automix.data.drawn.textures import draw_textures

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "image_sets"

DRAWN = {
    "letters": (draw_letters, 13),
    "patches": (draw_patches, 12),
    "textures": (draw_textures, 16),
}
"""Kind -> what draws it, and how many images stand side by side."""

ZOOM, GAP, COLOURS = 2, 6, 128


def pictures() -> Iterator[tuple[str, Image.Image]]:
    """Yield the file name and the picture of each set: for every degree, one image a class."""
    for kind, (draw, columns) in DRAWN.items():
        blocks = []
        for degree in DATASETS.info(kind).names:
            source = DataSource(dataset=f"{kind}/{degree}")
            blocks.append(_block(draw(source, 50), columns))
        height = sum(block.height + GAP for block in blocks) - GAP
        picture, top = Image.new("RGB", (blocks[0].width, height), "white"), 0
        for block in blocks:
            picture.paste(block, (0, top))
            top += block.height + GAP
        yield f"{kind}.png", picture.quantize(COLOURS)


def _block(images: ImageSet, columns: int) -> Image.Image:
    """Return the first image of every class, in rows; every second row shows its boxes, if any."""
    first = [int(np.argmax(images.labels == label)) for label in range(images.num_classes)]
    pixels = (images.pixels.read(np.array(first)) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    side = ZOOM * images.shape[1]
    size = (columns * side, -(-len(first) // columns) * side)
    block = Image.new("RGB", size, "white")
    for place, number in enumerate(first):
        image = Image.fromarray(pixels[place]).resize((side, side), Image.Resampling.NEAREST)
        row, column = divmod(place, columns)
        if images.boxes is not None and row % 2:
            left, top, right, bottom = (ZOOM * int(edge) for edge in images.boxes[number])
            ImageDraw.Draw(image).rectangle((left, top, right - 1, bottom - 1), outline="white")
        block.paste(image, (column * side, row * side))
    return block


def write_pictures(folder: Path = FOLDER) -> list[Path]:
    """Write the pictures; return their paths."""
    written = []
    for name, picture in pictures():
        buffer = io.BytesIO()
        picture.save(buffer, "png", optimize=True)
        written.append(folder / name)
        write_bytes(folder / name, buffer.getvalue())
    return written


if __name__ == "__main__":
    import click

    for path in write_pictures():
        click.echo(str(path))
