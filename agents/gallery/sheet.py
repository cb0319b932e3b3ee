"""The gallery as one picture: a row for each form, a column for each image.

All pictures are put on one canvas pixel by pixel, because a plot for each of some thousands would
take minutes; matplotlib writes the words on it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import torch.nn.functional as F
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from automix.agents.gallery.scene import Scene, Shot
from automix.agents.report.drawing import FAINT, INK, MUTED, PAPER, page_style
from automix.core.errors import ConfigError
from automix.core.files import write_atomically
from automix.mixes import MIXES
from automix.mixing.actions import OFF

LARGE = 80
"""Pixels of a mixed picture's longer side, about; small ones are enlarged by a whole number."""

MARGIN, GAP, HEAD, NAMES, WORDS = 14, 3, 64, 150, 18
"""Pixels: around the page, between pictures, the caption, the column of names, a line of labels."""

BETWEEN_ROWS, BETWEEN_MIXES, BETWEEN_COLUMNS = 9, 22, 15

DPI = 100

MOST_PIXELS = 2**16 - 1
"""Height of a page: many viewers open no more."""

STRIP, TALLEST = 1024, 30
"""Pixels: so many lines of the canvas get their words at a time, to spare memory; no word is
taller."""

MOST_SHARES, LEAST_SHARE = 3, 0.005
"""How many parts of a label are written, and the smallest."""

MASK, SALIENCY = "Blues", "magma"
"""Colour maps: a mask from 0 to 1, a saliency map up to its own peak."""


@dataclass(frozen=True)
class _Text:
    """Words at a place, in pixels from the upper left corner."""

    x: float
    y: float
    words: str
    colour: str = MUTED
    size: float = 7.0
    bold: bool = False


class _Page:
    """A canvas and the words on it."""

    def __init__(self, height: int, width: int) -> None:
        if height > MOST_PIXELS:
            raise ConfigError(
                f"the gallery would be {height} pixels high, wanted {MOST_PIXELS} at most",
                "choose fewer with --mixes, --ratios or --saliency",
            )
        self.canvas = np.empty((height, width, 3), np.uint8)
        self.canvas[:] = _bytes(np.array(to_rgb(PAPER)))
        self.texts: list[_Text] = []

    def paste(self, picture: np.ndarray, y: int, x: int, framed: bool = False) -> None:
        """Put (h, w, 3) bytes somewhere, with a frame of a pixel around it if asked for."""
        h, w, _ = picture.shape
        if framed:
            self.canvas[y - 1 : y + h + 1, x - 1 : x + w + 1] = _bytes(np.array(to_rgb(FAINT)))
        self.canvas[y : y + h, x : x + w] = picture

    def rule(self, y: int) -> None:
        """Draw a line across."""
        self.canvas[y, MARGIN:-MARGIN] = _bytes(np.array(to_rgb(FAINT)))

    def png(self, palette: int) -> bytes:
        """Return the file: equal for equal pages."""
        with page_style():
            for top in range(0, len(self.canvas), STRIP):
                self._write_words(top)
        picture = Image.fromarray(self.canvas)
        buffer = io.BytesIO()
        if palette:
            # The colours of the few pixels of a mask count as much as those of a large surface.
            few = picture.quantize(palette, Image.Quantize.MAXCOVERAGE)
            few.save(buffer, "PNG", optimize=True)
        else:  # optimizing takes longer than all the rest
            picture.save(buffer, "PNG")
        return buffer.getvalue()

    def _write_words(self, top: int) -> None:
        """Write the words of a strip of the canvas."""
        strip = self.canvas[top : top + STRIP]
        height, width, _ = strip.shape
        figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="none")
        painter = FigureCanvasAgg(figure)
        for text in self.texts:
            if top - TALLEST <= text.y < top + height:
                figure.text(
                    text.x / width,
                    1 - (text.y - top) / height,
                    text.words,
                    color=text.colour,
                    fontsize=text.size,
                    fontweight="bold" if text.bold else "normal",
                    va="top",
                )
        painter.draw()
        words = np.asarray(painter.buffer_rgba())
        at = words[..., 3] > 0
        weight = words[at][:, 3:] / 255
        strip[at] = np.round(words[at][:, :3] * weight + strip[at] * (1 - weight))


@dataclass(frozen=True)
class _Measures:
    """Sizes in pixels, which follow from those of the images."""

    large: tuple[int, int]
    small: tuple[int, int]

    @property
    def cell(self) -> int:
        """Width of a mixed picture with the four small ones beside it."""
        return self.large[1] + 2 * (GAP + self.small[1])

    @property
    def row(self) -> int:
        """Height of a row with its labels."""
        return self.large[0] + WORDS

    def x(self, column: int) -> int:
        """Return where a column begins."""
        return MARGIN + NAMES + column * (self.cell + BETWEEN_COLUMNS)


def _measures(size: tuple[int, int]) -> _Measures:
    side = max(size)
    # Twice a whole number, so that the small pictures, of half the size, have whole pixels too.
    scale = 2 * max(1, round(LARGE / (2 * side))) if side <= LARGE / 2 else LARGE / side
    small = max(1, round(size[0] * scale / 2)), max(1, round(size[1] * scale / 2))
    return _Measures((2 * small[0], 2 * small[1]), small)


def sheet_png(scene: Scene, shots: Sequence[Shot], caption: str = "", palette: int = 0) -> bytes:
    """Draw rows of the gallery.

    Args:
        scene: The images.
        shots: The rows.
        caption: What the reader must know, one line; without it there is no head.
        palette: Colours to do with, at most 256, for a file of half the size; 0 keeps all.

    Returns:
        A PNG file.

    Raises:
        ConfigError: If there are more rows than fit on a page.
    """
    measures = _measures((scene.images.shape[2], scene.images.shape[3]))
    start = MARGIN + HEAD if caption else MARGIN
    tops = _tops(shots, measures, start + measures.row)
    page = _Page(tops[-1] + measures.row + MARGIN, measures.x(len(scene.images)) + MARGIN)
    if caption:
        _head(page, caption)
    _originals(page, measures, scene, start)
    names = [_short(name) for name in scene.task.images.class_names]
    for shot, top, begins in zip(shots, tops, _begins(shots), strict=True):
        if begins:
            page.rule(top - BETWEEN_MIXES // 2)
        _row(page, measures, scene, shot, top, names)
    return page.png(palette)


def write_png(path: Path, png: bytes) -> None:
    """Write the file, whole or not at all."""

    def fill(temporary: Path) -> None:
        temporary.write_bytes(png)

    write_atomically(path, fill)


def _begins(shots: Sequence[Shot]) -> list[bool]:
    """Return which rows are the first of their mix."""
    names = [shot.form.name for shot in shots]
    return [above != name for above, name in zip(["", *names], names, strict=False)]


def _tops(shots: Sequence[Shot], measures: _Measures, y: int) -> list[int]:
    """Return where each row begins, below y."""
    tops = []
    for begins in _begins(shots):
        y += BETWEEN_MIXES if begins else BETWEEN_ROWS
        tops.append(y)
        y += measures.row
    return tops


def _head(page: _Page, caption: str) -> None:
    page.texts.append(_Text(MARGIN, MARGIN, caption, INK, 8.5))
    key = (
        "Large: the mixed image, its label below.  Small: the mask (blue is not the image's own) "
        "and, where there is one, the partner;",
        "below them, where guided, the saliency of the image and of its partner.",
    )
    for line, words in enumerate(key):
        page.texts.append(_Text(MARGIN, MARGIN + 19 + 14 * line, words))


def _originals(page: _Page, measures: _Measures, scene: Scene, top: int) -> None:
    page.texts.append(_Text(MARGIN, top, "the images", INK, 9.0, bold=True))
    for column, (image, label) in enumerate(
        zip(scene.shown(scene.images), scene.labels.tolist(), strict=True)
    ):
        page.paste(_picture(image, measures.large), top, measures.x(column))
        name = _short(scene.task.images.class_names[label])
        page.texts.append(
            _Text(measures.x(column), top + measures.large[0] + 2 * GAP, name, INK, 7.5)
        )


def _row(
    page: _Page, measures: _Measures, scene: Scene, shot: Shot, top: int, names: Sequence[str]
) -> None:
    for line, text in enumerate(title(shot)):
        first = line == 0
        page.texts.append(
            _Text(
                MARGIN,
                top + 15 * line,
                text,
                INK if first else MUTED,
                9.0 if first else 7.5,
                bold=first,
            )
        )
    masks = shot.mask.float().expand(-1, -1, *scene.images.shape[2:])
    originals = scene.shown(scene.images)
    for column in range(len(originals)):
        x = measures.x(column)
        page.paste(_picture(shot.images[column], measures.large), top, x)
        partner = [] if shot.partner is None else [int(shot.partner[column])]
        beside = [[_heat(masks[column], measures.small, MASK)]]
        beside[0] += [_picture(originals[one], measures.small) for one in partner]
        if shot.maps is not None:
            maps = [shot.maps[one] for one in (column, *partner)]
            beside.append([_heat(map[None] / map.max(), measures.small, SALIENCY) for map in maps])
        for line, pictures in enumerate(beside):
            for place, picture in enumerate(pictures):
                page.paste(
                    picture,
                    top + line * (measures.small[0] + GAP),
                    x + measures.large[1] + GAP + place * (measures.small[1] + GAP),
                    framed=True,
                )
        own = int(scene.labels[column])
        words = label_words(shot.targets[column], own, names)
        page.texts.append(_Text(x, top + measures.large[0] + 2 * GAP, words, INK, 7.5))


def title(shot: Shot) -> list[str]:
    """Return what stands beside a row, line by line."""
    action = shot.form.action
    lines = [shot.form.name]
    if action.mixes:
        lines.append(f"ratio {action.ratio:g}")
        lines.append("unguided" if action.saliency == OFF else f"guided by {action.saliency}")
    if MIXES.info(action.method).layers:
        lines.append("several partners")
    if not shot.form.name.startswith(action.method):
        lines.append(f"is {action.method}")
    if action.label_rule:
        lines.append(f"labels by {action.label_rule}")
    return lines


def label_words(target: np.ndarray, own: int, names: Sequence[str]) -> str:
    """Return a label such as ``3 .62 / 8 .38``: the image's own class first, then by weight.

    Args:
        target: (k,) weights of the classes.
        own: The image's class.
        names: k names.
    """
    seen = np.flatnonzero(target >= LEAST_SHARE).tolist()
    order = sorted(seen, key=lambda k: (k != own, -target[k]))
    parts = [
        names[k]
        if target[k] > 1 - LEAST_SHARE
        else f"{names[k]} {target[k]:.2f}".replace(" 0", " ")
        for k in order[:MOST_SHARES]
    ]
    return " / ".join(parts) + (" / ..." if len(order) > MOST_SHARES else "")


def _short(name: str) -> str:
    return name if len(name) <= 10 else f"{name[:9]}…"


def _picture(image: Tensor, size: tuple[int, int]) -> np.ndarray:
    """Return (c, h, w) in [0, 1] as (h', w', 3) bytes; other than three channels become grey."""
    colours = image if len(image) == 3 else image.mean(0, keepdim=True).expand(3, -1, -1)
    return _bytes(_resized(colours, size).permute(1, 2, 0).numpy())


def _heat(values: Tensor, size: tuple[int, int], colours: str) -> np.ndarray:
    """Return (1, h, w) in [0, 1] as (h', w', 3) bytes of a colour map."""
    return _bytes(matplotlib.colormaps[colours](_resized(values, size)[0].numpy())[..., :3])


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Show the pixels of small images as they are, and all of large ones."""
    if size[0] >= image.shape[1] and size[1] >= image.shape[2]:
        return F.interpolate(image[None], size=size, mode="nearest-exact")[0]
    return F.interpolate(image[None], size=size, mode="bilinear", antialias=True)[0].clamp(0, 1)


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.round(values * 255).astype(np.uint8)
