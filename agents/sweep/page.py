"""The page of a sweep: the best setting, what matters, every trial, what failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from automix.agents.report.drawing import INK, MUTED, Margins, Painter, Palette, Picture, page_style
from automix.agents.report.figures import FOREST_WIDTH, ROW, Mark, forest
from automix.agents.report.frame import fill
from automix.agents.sweep.folder import SweepDirectory
from automix.agents.sweep.importance import Importance
from automix.agents.sweep.planning.plan import SEED, SweepPlan, text_of
from automix.agents.sweep.results import Row, Setting
from automix.core.files import write_text

MOST_SETTINGS = 24
"""Settings in the picture; the table has all of them."""

LONGEST = 34
"""Letters of a label in a picture."""


def write_page(
    plan: SweepPlan,
    directory: SweepDirectory,
    rows: Sequence[Row],
    settings: Sequence[Setting],
    lead: Mapping[str, Any] | None,
    importance: Sequence[Importance],
) -> None:
    """Write ``report/index.html`` and its pictures.

    Args:
        plan: Of the sweep.
        directory: Of the sweep.
        rows: All trials, in order.
        settings: Best first.
        lead: Of the best over the next.
        importance: Of each parameter.
    """
    painter = Painter(Palette([], []))
    with page_style():
        ranking = _ranking(settings, painter) if settings else None
        explained = _importance(importance, painter) if importance else None
    page = fill(
        "sweep.html",
        name=directory.path.name,
        command=(directory.path / "command.txt").read_text(encoding="utf-8").strip(),
        resume=f"python run.py resume {directory.path}",
        metric=plan.settings.metric,
        keys=plan.keys,
        rows=rows,
        settings=settings,
        verdict=_verdict(settings),
        lead=_lead(lead),
        ranking=ranking,
        importance=importance,
        explained=explained,
        exact=all(one.by_chance is not None for one in importance),
        parameters=[key for key in plan.keys if key != SEED],
        failed=[row for row in rows if row.state == "failed"],
        finished=sum(row.figures is not None for row in rows),
        most=MOST_SETTINGS,
        colours=painter.palette.variables(),
    )
    for picture in filter(None, (ranking, explained)):
        write_text(directory.path / "report" / f"{picture.name}.svg", picture.svg)
    write_text(directory.path / "report" / "index.html", page)


def _verdict(settings: Sequence[Setting]) -> str:
    """Return the best setting in a sentence."""
    if not settings:
        return "No trial has finished."
    best = settings[0]
    if len(settings) == 1:
        return f"One setting, {best}: {_percent(best.value)} % validation accuracy, n = {best.n}."
    return (
        f"Best of {len(settings)} settings: {best}, with {_percent(best.value)} % validation"
        f" accuracy{_bounds(best)}, n = {best.n}."
    )


def _lead(lead: Mapping[str, Any] | None) -> str:
    """Return how far the best is ahead, or that it cannot be known."""
    if lead is None:
        return "How far it is ahead is unknown: that takes two seeds or more of two settings."
    low, high = lead["ci95"]
    text = (
        f"It is {100 * lead['mean']:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}] points from the"
        f" next, {lead['over']}, paired over n = {lead['n']} seeds"
    )
    if not lead["enough"]:
        return f"{text}; so few seeds cannot distinguish them."
    return f"{text}." if low > 0 else f"{text}: the two are not distinguished."


def _bounds(setting: Setting) -> str:
    if setting.interval is None:
        return ""
    low, high = setting.interval
    return f" [{_percent(low)}, {_percent(high)}]"


def _ranking(settings: Sequence[Setting], painter: Painter) -> Picture:
    """Draw the settings with their intervals, best first."""
    marks = []
    for rank, setting in enumerate(settings[:MOST_SETTINGS]):
        low, high = setting.interval or (setting.value, setting.value)
        name = _short(setting.values)
        marks.append(Mark(name, 100 * setting.value, 100 * low, 100 * high, strong=rank == 0))
    label = (
        f"Validation accuracy of {len(marks)} settings with 95 % intervals; highest"
        f" {marks[0].label} with {marks[0].value:.1f} %"
    )
    return forest(painter, "settings", label, marks, "validation accuracy, %")


def _importance(found: Sequence[Importance], painter: Painter) -> Picture:
    """Draw what each parameter explains, and what it would by chance."""
    rows = np.arange(len(found))
    shares = np.array([100 * one.share for one in found])
    chances = [(row, 100 * one.by_chance) for row, one in enumerate(found) if one.by_chance]

    def paint(axes: Axes) -> None:
        axes.barh(rows, shares, height=0.62, color=INK)
        for row, chance in chances:
            axes.vlines(chance, row - 0.42, row + 0.42, MUTED, linewidth=2.2)
        for row, share in enumerate(shares):
            axes.text(share + 2, row, f"{share:.0f} %", va="center")
        axes.set_yticks(rows, [_cut(one.key) for one in found])
        for label in axes.get_yticklabels():
            label.set_color(INK)
        axes.set_ylim(len(found) - 0.4, -0.6)
        axes.set_xlim(0, 115)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("explained, % of the variance between settings")

    shown = ", ".join(f"{one.key} {share:.0f} %" for one, share in zip(found, shares, strict=True))
    left = min(240.0, 14 + 6.6 * max(len(_cut(one.key)) for one in found))
    return painter.draw(
        "importance",
        f"Share of the differences between settings that each parameter explains: {shown}",
        (FOREST_WIDTH, ROW * len(found) + 52),
        paint,
        Margins(left=left, bottom=44, top=8),
    )


def _short(values: Mapping[str, str]) -> str:
    values = {key.rpartition(".")[2]: value for key, value in values.items()}
    return _cut(text_of(values) or "all seeds")


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"
