"""Pictures that fit a light and a dark page: one set of axes each, drawn without global state.

A picture is drawn in the colours of the light page. The page gets the same drawing with each
colour replaced by a CSS variable, so that the reader's colour scheme decides.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib
from markupsafe import Markup
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

INK, MUTED, FAINT, PAPER = "#1c2024", "#60686f", "#dde1e5", "#fdfdfc"
"""Text and the agent; all others; grids; the page."""

DARK = {INK: "#e9ebed", MUTED: "#9aa3ab", FAINT: "#33393f", PAPER: "#15181b"}
"""The same on a dark page."""

NOT_MIXED = ("#b9bfc6", "#565e66")
"""Light and dark colour of the method ``none``."""

MIXED = (
    ("#0072b2", "#4ea5e0"),
    ("#d55e00", "#f2894a"),
    ("#009e73", "#35c39a"),
    ("#cc79a7", "#dc94bd"),
    ("#e69f00", "#f3b73b"),
    ("#332288", "#8f83dc"),
    ("#999933", "#bcbc55"),
    ("#882255", "#c4608f"),
    ("#56b4e9", "#a6dcf8"),
)
"""Okabe and Ito's colours, then Tol's: colour-blind readers can distinguish them too."""

HATCHES = ("", "////", "\\\\\\\\", "----", "||||", "xxxx")
"""For ``off`` and for each saliency provider in turn."""

LIGHTEST = 0.35
"""Opacity of the smallest ratio."""

RC = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "axes.edgecolor": MUTED,
    "axes.facecolor": PAPER,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": PAPER,
    "font.size": 11.0,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "hatch.linewidth": 1.0,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 3.0,
    "ytick.major.size": 0.0,
}


_NOISE = (
    # Colours and fonts of the whole page are not a drawing's business, and ids of groups, which
    # nothing refers to, come again in the next drawing.
    r"<metadata>.*?</metadata>|<style.*?</style>",
    r'(?<=<g) id="[^"]*"',
    r"font-family: [^;\"]*;? ?",
    r' transform="rotate\(-0 [^)]*\)"',
)


@dataclass(frozen=True)
class Picture:
    """One drawing.

    Attributes:
        name: File name without ending; unique on the page.
        label: What it shows, for readers who do not see it.
        svg: A whole file.
        inline: The same as part of a page.
    """

    name: str
    label: str
    svg: str
    inline: Markup


@dataclass(frozen=True)
class Margins:
    """Room around the axes, in pixels."""

    left: float = 40.0
    right: float = 10.0
    bottom: float = 40.0
    top: float = 10.0


@dataclass(frozen=True)
class MixStyle:
    """How one mix is painted."""

    colour: str
    opacity: float
    hatch: str


class Palette:
    """Gives each method a colour, each ratio a shade and each saliency provider a hatch.

    Args:
        methods: In the order that decides the colours; ``none`` is always grey.
        mixes: Every mix that is to be painted, as ``method@ratio+saliency``.
    """

    def __init__(self, methods: Sequence[str], mixes: Sequence[str]) -> None:
        parts = [parse_mix(mix) for mix in mixes]
        found = dict.fromkeys([*methods, *sorted(method for method, _, _ in parts)])
        self.methods = [method for method in found if method != "none"]
        self.ratios = sorted({ratio for method, ratio, _ in parts if method != "none"})
        self.guides = ["off", *sorted({guide for _, _, guide in parts} - {"off"})]
        self.pairs = [NOT_MIXED, *_pairs(len(self.methods))]
        order = ["none", *self.methods]
        self.mixes = sorted(
            dict.fromkeys(mixes),
            key=lambda mix: (order.index(parse_mix(mix)[0]), self._place(*parse_mix(mix)[1:])),
        )

    def _place(self, ratio: float, guide: str) -> tuple[float, int]:
        """Return where a mix stands among those of its method."""
        return ratio, self.guides.index(guide)

    def style_of(self, mix: str) -> MixStyle:
        """Return how a mix is painted."""
        method, ratio, guide = parse_mix(mix)
        if method == "none":
            return MixStyle(NOT_MIXED[0], 1.0, "")
        rank = self.ratios.index(ratio)
        step = (1 - LIGHTEST) / max(1, len(self.ratios) - 1)
        opacity = 1 - step * (len(self.ratios) - 1 - rank)
        return MixStyle(
            self.colour(method), opacity, HATCHES[self.guides.index(guide) % len(HATCHES)]
        )

    def colour(self, method: str) -> str:
        """Return the colour of a method on the light page."""
        return self.pairs[0 if method == "none" else 1 + self.methods.index(method)][0]

    def variables(self) -> dict[str, tuple[str, str]]:
        """Return the page's colours by the name of their CSS variable: light, dark."""
        fixed = {"ink": INK, "muted": MUTED, "faint": FAINT, "paper": PAPER}
        mixes = {f"mix-{i}": pair for i, pair in enumerate(self.pairs)}
        return {name: (light, DARK[light]) for name, light in fixed.items()} | mixes


def parse_mix(mix: str) -> tuple[str, float, str]:
    """Return method, ratio and saliency of a mix, whether or not it is still registered."""
    method, _, rest = mix.partition("@")
    ratio, _, guide = rest.partition("+")
    try:
        return method, float(ratio or 0), guide or "off"
    except ValueError:
        return mix, 0.0, "off"


def _pairs(count: int) -> list[tuple[str, str]]:
    """Return that many different colours."""
    if count <= len(MIXED):
        return list(MIXED[:count])
    rainbow = matplotlib.colormaps["turbo"]
    colours = [to_hex(rainbow((i + 0.5) / count)) for i in range(count)]
    return [(colour, colour) for colour in colours]


@contextmanager
def page_style() -> Iterator[None]:
    """Draw in the report's style inside the block, whatever the user's matplotlibrc says."""
    with style.context(["default", RC]):
        yield


class Painter:
    """Draws pictures in the colours of one page.

    Args:
        palette: Of the mixes.
    """

    def __init__(self, palette: Palette) -> None:
        self.palette = palette
        self._variables = {
            light: f"var(--{name})" for name, (light, _) in palette.variables().items()
        }

    def draw(
        self,
        name: str,
        label: str,
        size: tuple[float, float],
        paint: Callable[[Axes], None],
        margins: Margins = Margins(),
    ) -> Picture:
        """Return a picture.

        Args:
            name: Unique on the page; ids inside the drawing depend on it.
            label: For readers who do not see it.
            size: Width and height in pixels.
            paint: Puts the content on the axes.
            margins: Room for labels.
        """
        width, height = size
        # One dot is one point: sizes in the drawing are pixels of the page.
        figure = Figure(figsize=(width / 72, height / 72), dpi=72)
        axes = figure.add_axes(
            (
                margins.left / width,
                margins.bottom / height,
                (width - margins.left - margins.right) / width,
                (height - margins.bottom - margins.top) / height,
            )
        )
        paint(axes)
        svg = _to_svg(figure, name)
        return Picture(name, label, svg, self._inline(svg, label))

    def _inline(self, svg: str, label: str) -> Markup:
        """Return the drawing as an element of the page."""
        box = re.search(r'viewBox="([^"]+)"', svg)
        assert box is not None
        body = svg[svg.index(">", svg.index("<svg")) + 1 :]
        for noise in _NOISE:
            body = re.sub(noise, "", body, flags=re.DOTALL)
        body = re.sub(r"\n\s*", "\n", body)
        body = re.sub(
            "#[0-9a-f]{6}(?![0-9a-f])",
            lambda colour: self._variables.get(colour[0], colour[0]),
            body,
        )
        width = box[1].split()[2]
        # What is replaced here was escaped by matplotlib, so the body is safe as it is.
        return Markup(
            '<svg role="img" aria-label="{}" viewBox="{}" style="max-width:{}px">'
        ).format(label, box[1], round(1.35 * float(width))) + Markup(body)


def _to_svg(figure: Figure, name: str) -> str:
    """Return the figure's bytes: equal for equal figures, without dates and versions."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(
            buffer,
            format="svg",
            metadata={"Date": None, "Creator": None, "Type": None, "Format": None},
        )
    return re.sub(r' d="[^"]*"', _shortened, buffer.getvalue())


def _shortened(path: re.Match[str]) -> str:
    """Write an outline with hundredths of a pixel, on one line."""
    numbers = re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", path[0])
    return re.sub(r"\s+", " ", numbers).replace(' "', '"')
