"""The gallery as one picture: a row for each mix, ratio and saliency, a column for each image.

Pillow puts some thousands of small pictures on it in a second; plots would take minutes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import matplotlib
import numpy as np
from matplotlib.font_manager import FontProperties, findfont
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from automix.agents.gallery.scene import Scene, Shot
from automix.agents.report.drawing import FAINT, INK, MUTED, PAPER
from automix.core.errors import ConfigError
from automix.mixes import MIXES
from automix.mixing.actions import OFF

LARGE = 80
"""Pixels of a mixed picture's longer side, about; small ones are enlarged by a whole number."""

MARGIN, GAP, HEAD, NAMES, LABEL = 14, 3, 64, 150, 18
"""Pixels: around the page, between pictures, the caption, the column of names, a line of labels."""

BETWEEN_ROWS, BETWEEN_MIXES, BETWEEN_COLUMNS = 9, 22, 15

MOST_PIXELS = 2**16 - 1
"""Height of a page: many viewers open no more."""

MOST_SHARES, LEAST_SHARE = 3, 0.005
"""How many parts of a label are written, and the smallest."""

MASK, SALIENCY = "Blues", "magma"
"""Colour maps: a mask from 0 to 1, a saliency map up to its own peak."""

KEY = """\
Large: the mixed image, its label below.  Small: the mask (blue is not the image's own) and, where \
there is one, the partner;
below them, where guided, the saliency of the image and of its partner."""


@dataclass(frozen=True)
class _Measures:
    """Sizes in pixels, which follow from those of the images."""

    large: tuple[int, int]
    small: tuple[int, int]
    """Half of that."""

    @property
    def cell(self) -> int:
        """Width of a mixed picture with the four small ones beside it."""
        return self.large[0] + 2 * (GAP + self.small[0])

    @property
    def row(self) -> int:
        """Height of a row with its labels."""
        return self.large[1] + LABEL

    def x(self, column: int) -> int:
        """Return where a column begins."""
        return MARGIN + NAMES + column * (self.cell + BETWEEN_COLUMNS)


def _measures(height: int, width: int) -> _Measures:
    side = max(height, width)
    # Twice a whole number, so that the small pictures, of half the size, have whole pixels too.
    scale = 2 * max(1, round(LARGE / (2 * side))) if side <= LARGE / 2 else LARGE / side
    small = max(1, round(width * scale / 2)), max(1, round(height * scale / 2))
    return _Measures((2 * small[0], 2 * small[1]), small)


def sheet_png(scene: Scene, shots: Sequence[Shot], caption: str = "", palette: int = 0) -> bytes:
    """Draw rows of the gallery.

    Args:
        scene: The images.
        shots: The rows.
        caption: What the reader must know, one line; without it there is no head.
        palette: Colours to do with, at most 256, for a file of half the size; 0 keeps all.

    Returns:
        A PNG file: equal for equal rows.

    Raises:
        ConfigError: If there are more rows than fit on a page.
    """
    measures = _measures(*scene.images.shape[2:])
    top = MARGIN + HEAD if caption else MARGIN
    tops = _tops(shots, measures, top + measures.row)
    height = tops[-1] + measures.row + MARGIN
    if height > MOST_PIXELS:
        raise ConfigError(
            f"the gallery would be {height} pixels high, wanted {MOST_PIXELS} at most",
            "choose fewer with --mixes, --ratios or --saliency",
        )
    page = Image.new("RGB", (measures.x(len(scene.images)) + MARGIN, height), PAPER)
    if caption:
        _write(page, MARGIN, MARGIN, caption, INK, 12)
        _write(page, MARGIN, MARGIN + 19, KEY, MUTED, 10)
    names = [_short(name) for name in scene.task.images.class_names]
    _draw_originals(page, measures, scene, top, names)
    for shot, top, begins in zip(shots, tops, _begins(shots), strict=True):
        if begins:
            line = top - BETWEEN_MIXES // 2
            ImageDraw.Draw(page).line((MARGIN, line, page.width - MARGIN - 1, line), FAINT)
        _draw_row(page, measures, scene, shot, top, names)
    if palette:
        # The colours of the few pixels of a mask count as much as those of a large surface.
        page = page.quantize(palette, Image.Quantize.MAXCOVERAGE)
    buffer = io.BytesIO()
    page.save(buffer, "PNG", optimize=palette > 0)  # of all colours it takes longer than the rest
    return buffer.getvalue()


def _begins(shots: Sequence[Shot]) -> list[bool]:
    """Return which rows are the first of their mix."""
    names = [shot.row.name for shot in shots]
    return [above != name for above, name in zip(["", *names], names, strict=False)]


def _tops(shots: Sequence[Shot], measures: _Measures, y: int) -> list[int]:
    """Return where each row begins, below y."""
    tops = []
    for begins in _begins(shots):
        y += BETWEEN_MIXES if begins else BETWEEN_ROWS
        tops.append(y)
        y += measures.row
    return tops


def _draw_originals(
    page: Image.Image, measures: _Measures, scene: Scene, top: int, names: Sequence[str]
) -> None:
    _write(page, MARGIN, top - 2, "the images", INK, 13, bold=True)
    for column, image in enumerate(scene.shown(scene.images)):
        x = measures.x(column)
        page.paste(_picture(image, measures.large), (x, top))
        _write(page, x, top + measures.large[1] + GAP, names[int(scene.labels[column])])


def _draw_row(
    page: Image.Image,
    measures: _Measures,
    scene: Scene,
    shot: Shot,
    top: int,
    names: Sequence[str],
) -> None:
    name, *details = title(shot)
    _write(page, MARGIN, top - 2, name, INK, 13, bold=True)
    _write(page, MARGIN, top + 15, "\n".join(details), MUTED)
    masks = shot.mask.float().expand(-1, -1, *scene.images.shape[2:])[:, 0]
    originals = scene.shown(scene.images)
    for column, own in enumerate(scene.labels.tolist()):
        x = measures.x(column)
        page.paste(_picture(shot.images[column], measures.large), (x, top))
        partner = [] if shot.partner is None else [int(shot.partner[column])]
        small = [
            [_heat(masks[column], measures.small, MASK)]
            + [_picture(originals[one], measures.small) for one in partner]
        ]
        if shot.maps is not None:
            maps = [shot.maps[one] for one in (column, *partner)]
            small.append([_heat(map / map.max(), measures.small, SALIENCY) for map in maps])
        for line, pictures in enumerate(small):
            y = top + line * (measures.small[1] + GAP)
            for place, picture in enumerate(pictures):
                left = x + measures.large[0] + GAP + place * (measures.small[0] + GAP)
                _frame(page, picture, left, y)
        label = label_words(shot.targets[column], own, names)
        _write(page, x, top + measures.large[1] + GAP, label)


def title(shot: Shot) -> list[str]:
    """Return what stands beside a row, line by line."""
    action = shot.row.action
    lines = [shot.row.name]
    if action.mixes:
        lines.append(f"ratio {action.ratio:g}")
        lines.append("unguided" if action.saliency == OFF else f"guided by {action.saliency}")
    if MIXES.info(action.method).layers:
        lines.append("several partners")
    if not shot.row.name.startswith(action.method):
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


def _write(
    page: Image.Image, x: int, y: int, text: str, colour: str = INK, size: int = 11, *,
    bold: bool = False,
) -> None:  # fmt: skip
    """Write lines of text below and to the right of a point."""
    ImageDraw.Draw(page).text((x, y), text, colour, _font(size, bold), spacing=4)


@cache
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    """Return matplotlib's own font, which is there wherever the gallery is."""
    file = findfont(FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal"))
    return ImageFont.truetype(file, size, layout_engine=ImageFont.Layout.BASIC)


def _frame(page: Image.Image, picture: Image.Image, x: int, y: int) -> None:
    """Put a picture somewhere, with a frame of a pixel around it."""
    ImageDraw.Draw(page).rectangle((x - 1, y - 1, x + picture.width, y + picture.height), FAINT)
    page.paste(picture, (x, y))


def _picture(image: Tensor, size: tuple[int, int]) -> Image.Image:
    """Return (c, h, w) in [0, 1] as a picture; other than three channels become grey."""
    colours = image if len(image) == 3 else image.mean(0, keepdim=True).expand(3, -1, -1)
    return _resized((255 * colours).round().byte().permute(1, 2, 0).numpy(), size)


def _heat(values: Tensor, size: tuple[int, int], colours: str) -> Image.Image:
    """Return (h, w) in [0, 1] in the colours of a map."""
    return _resized(matplotlib.colormaps[colours](values.numpy(), bytes=True)[..., :3], size)


def _resized(pixels: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """Show the pixels of small images as they are, and all of large ones."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    enlarged = size[0] >= picture.width and size[1] >= picture.height
    return picture.resize(size, Image.Resampling.NEAREST if enlarged else Image.Resampling.BILINEAR)
