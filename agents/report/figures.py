"""The report's pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import FuncFormatter, MaxNLocator

from automix.agents.report.drawing import (
    INK,
    MUTED,
    PAPER,
    Margins,
    Painter,
    Palette,
    Picture,
    parse_mix,
)
from automix.agents.report.run_files import Difference, Run, Update
from automix.agents.report.text import (
    ReportedDifferences,
    by_task,
    percent,
    relation,
    rivals_by_task,
    short,
)

PANEL = (316.0, 190.0)
"""Pixels of one small multiple: three stand side by side on a page, one on a phone."""

FOREST_WIDTH = 410.0
ROW = 22.0
"""Height of a contestant in a forest plot."""

MOST_COLUMNS = 24
"""Columns into which the updates are gathered; four or more each, so that few stay empty."""

MOST_POINTS = 240
"""Updates shown as points of their own; more are averaged."""


@dataclass(frozen=True)
class Panel:
    """A picture with a title, and a note that says in words what it shows."""

    title: str
    picture: Picture
    note: str = ""


@dataclass(frozen=True)
class Mark:
    """A value with its interval, one row of a forest plot."""

    label: str
    value: float
    low: float
    high: float
    strong: bool = False
    """Drawn in full ink."""
    clear: bool = True
    """Whether the dot is filled: the interval does not span zero."""


@dataclass(frozen=True)
class CurveStyle:
    """How a contestant's curve is drawn, in the figures and in their legend."""

    name: str
    colour: str
    dash: str
    width: float


def palette_of(run: Run) -> Palette:
    """Return the colours of all mixes that a figure shows."""
    played = {
        mix
        for (contestant, _), trials in run.trials.items()
        if contestant == run.agent
        for trial in trials
        for mix in trial.mixes
    }
    learned = {
        mix for update in run.updates for kind in update.by_kind.values() for mix in kind.play
    }
    fixed = {short(c.name) for c in run.contestants if c.kind == "fixed"}
    methods = run.setting("env", "actions", "methods") or ["none"]
    return Palette([str(m) for m in methods], sorted(played | learned | fixed))


def curves_of(run: Run, palette: Palette) -> list[CurveStyle]:
    """Return the curves that are shown: the agent's, and those that it is measured against."""
    lines = [CurveStyle(run.agent, INK, "-", 2.2)] if run.agent else []
    if run.best_fixed not in (None, "none"):
        method = parse_mix(short(str(run.best_fixed)))[0]
        lines.append(CurveStyle(str(run.best_fixed), palette.colour(method), "-", 1.6))
    if run.contestant("none"):
        lines.append(CurveStyle("none", MUTED, "--", 1.5))
    if run.contestant("random"):
        lines.append(CurveStyle("random", MUTED, ":", 1.9))
    return lines or [CurveStyle(run.contestants[0].name, INK, "-", 2.2)]


def scores(run: Run, reported: ReportedDifferences, painter: Painter) -> Picture:
    """Draw each contestant's IQM with its interval."""
    marks = [
        Mark(short(c.name), 100 * c.iqm, 100 * c.low, 100 * c.high, c.name == reported.subject)
        for c in run.contestants
    ]
    top = run.contestants[0]
    label = (
        f"Interquartile mean of test accuracy of {len(marks)} contestants with 95 % intervals; "
        f"highest {short(top.name)} with {percent(top.iqm)} %"
    )
    return forest(painter, "scores", label, marks, "test accuracy, %")


def differences(run: Run, reported: ReportedDifferences, painter: Painter) -> Picture:
    """Draw the subject minus each other contestant."""
    names = [c.name for c in run.contestants if c.name in reported.minus]
    marks = [_difference_mark(short(name), reported.minus[name]) for name in names]
    label = f"Paired differences in test accuracy, {reported.title} minus each other contestant"
    return forest(
        painter, "differences", label, marks, f"points, {reported.title} minus it", zero=True
    )


def differences_by_task(run: Run, reported: ReportedDifferences, painter: Painter) -> list[Panel]:
    """Draw the subject minus its main rivals, for each kind of task."""
    panels = []
    for number, rival in enumerate(rivals_by_task(run, reported)):
        marks = [
            _difference_mark(task, value)
            for task, value in zip(run.tasks, by_task(run, reported, rival), strict=True)
        ]
        title = f"{reported.title} minus {short(rival)}"
        label = f"Paired differences in test accuracy by kind of task, {title}"
        name = f"differences-by-task-{number}"
        picture = forest(painter, name, label, marks, f"points, {title}", zero=True)
        panels.append(Panel(f"By kind of task, {title}", picture))
    return panels


def _difference_mark(label: str, d: Difference) -> Mark:
    clear = relation(d) != "cannot be distinguished from"
    return Mark(label, 100 * d.mean, 100 * d.low, 100 * d.high, strong=True, clear=clear)


def forest(
    painter: Painter,
    name: str,
    label: str,
    marks: Sequence[Mark],
    axis: str,
    zero: bool = False,
) -> Picture:
    """Draw values with their intervals, a row each.

    Args:
        painter: Of the page.
        name: Of the picture.
        label: For readers who do not see it.
        marks: From top to bottom.
        axis: What the numbers are.
        zero: Whether the line at zero matters.
    """
    rows = np.arange(len(marks))
    inks = [INK if mark.strong else MUTED for mark in marks]

    def paint(axes: Axes) -> None:
        if zero:
            axes.axvline(0, color=MUTED, linewidth=1.0)
        axes.hlines(rows, [m.low for m in marks], [m.high for m in marks], inks, linewidth=1.6)
        axes.scatter(
            [m.value for m in marks],
            rows,
            s=36,
            facecolors=[ink if m.clear else PAPER for m, ink in zip(marks, inks, strict=True)],
            edgecolors=inks,
            linewidths=1.6,
            zorder=3,
        )
        axes.set_yticks(rows, [m.label for m in marks])
        for text, mark in zip(axes.get_yticklabels(), marks, strict=True):
            text.set_color(INK)
            text.set_fontweight("bold" if mark.strong and not zero else "normal")
        axes.set_ylim(len(marks) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.set_xlabel(axis)

    left = 14 + 6.6 * max(len(mark.label) for mark in marks)
    size = (FOREST_WIDTH, ROW * len(marks) + 52)
    return painter.draw(name, label, size, paint, Margins(left=min(left, 240.0), bottom=44, top=8))


def played(run: Run, agent: str, painter: Painter) -> list[Panel]:
    """Draw what the agent played in each epoch, one panel per kind of held-out task."""
    panels = []
    for number, task in enumerate(_drawn(run, run.tasks)):
        trials = run.trials[agent, task]
        shares = _shares([trial.mixes for trial in trials], painter.palette.mixes)
        partner = np.mean([trial.partner_by_epoch for trial in trials], axis=0)
        note = _mostly(shares.mean(0), painter.palette.mixes)
        label = f"What the agent plays by epoch on {task}: {note}"
        paint = _played_painter(shares, partner, painter.palette)
        picture = painter.draw(f"played-{number}", label, PANEL, paint, Margins(left=34, top=6))
        panels.append(Panel(task, picture, note))
    return panels


def _played_painter(
    shares: np.ndarray, partner: np.ndarray, palette: Palette
) -> Callable[[Axes], None]:
    def paint(axes: Axes) -> None:
        epochs = np.arange(1, len(shares) + 1)
        _stack(axes, epochs, shares, palette)
        # The paper-coloured line underneath keeps the thin one readable on every colour.
        axes.plot(epochs, partner, color=PAPER, linewidth=3.4, solid_capstyle="round")
        axes.plot(epochs, partner, color=INK, linewidth=1.3, solid_capstyle="round")
        axes.set_xlim(0.4, len(epochs) + 0.6)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_xlabel("epoch")
        _share_axis(axes)

    return paint


def play_while_learning(run: Run, painter: Painter) -> list[Panel]:
    """Draw how play shifted over the updates, one panel per kind of task."""
    panels = []
    for number, kind in enumerate(_drawn(run, _kinds(run))):
        shares = _shares_by_bin(run.updates, kind, painter.palette.mixes)
        seen = shares[shares.sum(1) > 0]
        note = (
            f"from {_mostly(seen[0], painter.palette.mixes, 1)} "
            f"to {_mostly(seen[-1], painter.palette.mixes, 1)}"
        )
        label = f"Play while learning on {kind}: {note}"
        paint = _learning_play_painter(shares, run.updates[-1].classifier_epochs, painter.palette)
        picture = painter.draw(f"learning-play-{number}", label, PANEL, paint, Margins(34, top=6))
        panels.append(Panel(kind, picture, note))
    return panels


def _learning_play_painter(
    shares: np.ndarray, epochs: int, palette: Palette
) -> Callable[[Axes], None]:
    def paint(axes: Axes) -> None:
        width = epochs / len(shares)
        _stack(axes, width * (np.arange(len(shares)) + 0.5), shares, palette, width)
        axes.set_xlim(0, epochs)
        _epochs_axis(axes)
        _share_axis(axes)

    return paint


def learning_curve(run: Run, painter: Painter) -> Picture:
    """Draw validation accuracy over all kinds against what learning has cost."""
    x = np.array([update.classifier_epochs for update in run.updates])
    y = np.array([update.val_accuracy for update in run.updates])
    smooth = np.mean([np.interp(x, *_smoothed(run, kind)) for kind in _kinds(run)], axis=0)

    def paint(axes: Axes) -> None:
        _points(axes, x, y)
        axes.plot(x, 100 * smooth, color=INK, linewidth=2.0)
        _learning_axes(axes, x[-1])

    label = (
        f"Validation accuracy while learning: {percent(smooth[0])} % at the start, "
        f"{percent(smooth[-1])} % at the end"
    )
    return painter.draw("learning-curve", label, (FOREST_WIDTH, 250), paint, Margins(44))


def learning_curves(run: Run, painter: Painter) -> list[Panel]:
    """Draw validation accuracy against cost, one panel per kind of task."""
    rivals = [line for line in curves_of(run, painter.palette) if line.colour != INK]
    panels = []
    for number, kind in enumerate(_drawn(run, _kinds(run))):
        found = [u for u in run.updates if kind in u.by_kind]
        x = np.array([u.classifier_epochs for u in found])
        y = np.array([u.by_kind[kind].val_accuracy for u in found])
        smooth = _smoothed(run, kind)
        levels = [(line, _final_val(run, line.name, kind)) for line in rivals]
        paint = _curve_painter(x, y, smooth, levels, run.updates[-1].classifier_epochs)
        label = (
            f"Validation accuracy while learning on {kind}: {percent(smooth[1][0])} % at the "
            f"start, {percent(smooth[1][-1])} % at the end"
        )
        picture = painter.draw(f"learning-curve-{number}", label, PANEL, paint, Margins(34, top=6))
        panels.append(Panel(kind, picture))
    return panels


def _curve_painter(
    x: np.ndarray,
    y: np.ndarray,
    smooth: tuple[np.ndarray, np.ndarray],
    levels: Sequence[tuple[CurveStyle, float | None]],
    epochs: int,
) -> Callable[[Axes], None]:
    def paint(axes: Axes) -> None:
        _points(axes, x, y)
        for line, level in levels:
            if level is not None:
                axes.axhline(100 * level, color=line.colour, linestyle=line.dash, linewidth=1.3)
        axes.plot(smooth[0], 100 * smooth[1], color=INK, linewidth=2.0)
        _learning_axes(axes, epochs)

    return paint


def diagnostics(run: Run, painter: Painter) -> list[Panel]:
    """Draw the learner's own figures, small."""
    x = np.array([update.classifier_epochs for update in run.updates])
    panels = []
    for number, key in enumerate(dict.fromkeys(key for u in run.updates for key in u.agent)):
        y = np.array([update.agent.get(key, np.nan) for update in run.updates])
        if not np.isfinite(y).any():
            continue
        paint = _diagnostic_painter(x, y)
        known = y[np.isfinite(y)]
        label = f"{key} while learning, from {known[0]:.3g} to {known[-1]:.3g}"
        picture = painter.draw(f"diagnostic-{number}", label, (232, 130), paint, Margins(46, top=6))
        panels.append(Panel(key.replace("_", " "), picture))
    return panels


def _diagnostic_painter(x: np.ndarray, y: np.ndarray) -> Callable[[Axes], None]:
    def paint(axes: Axes) -> None:
        axes.plot(*_thinned(x, y), color=INK, linewidth=1.3)
        axes.yaxis.set_major_locator(MaxNLocator(3))
        axes.yaxis.set_major_formatter(FuncFormatter(_three_digits))
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.xaxis.set_major_formatter(FuncFormatter(_thousands))
        axes.set_xlim(0, x[-1])

    return paint


def training_curves(run: Run, painter: Painter) -> list[Panel]:
    """Draw mean validation accuracy per epoch on held-out tasks, one panel per kind."""
    panels = []
    for number, task in enumerate(_drawn(run, run.tasks)):
        curves = [
            (line, np.mean([trial.val_curve for trial in run.trials[line.name, task]], axis=0))
            for line in curves_of(run, painter.palette)
        ]
        measured = run.trials[curves[0][0].name, task][0].measured
        ends = ", ".join(f"{short(line.name)} {percent(curve[-1])} %" for line, curve in curves)
        label = f"Validation accuracy by epoch on {task}; at the end {ends}"
        paint = _training_painter(np.array(measured), curves)
        picture = painter.draw(f"training-{number}", label, PANEL, paint, Margins(34, top=6))
        panels.append(Panel(task, picture))
    return panels


def _training_painter(
    epochs: np.ndarray, curves: Sequence[tuple[CurveStyle, np.ndarray]]
) -> Callable[[Axes], None]:
    def paint(axes: Axes) -> None:
        for line, curve in reversed(curves):
            axes.plot(
                epochs,
                100 * curve,
                color=line.colour,
                linestyle=line.dash,
                linewidth=line.width,
            )
        # The climb out of guessing would press everything that matters into the last pixels.
        start = len(epochs) // 4
        shown = 100 * np.concatenate([curve[start:] for _, curve in curves])
        pad = max(0.5, 0.06 * float(np.ptp(shown)))
        axes.set_ylim(shown.min() - pad, shown.max() + pad)
        axes.set_xlim(0, epochs[-1] + 0.2)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("epoch")

    return paint


def _shares(plays: Sequence[Sequence[str]], mixes: Sequence[str]) -> np.ndarray:
    """Return the share of each mix by epoch, (epochs, mixes)."""
    by_epoch = [Counter(epoch) for epoch in zip(*plays, strict=True)]
    return np.array([[counts[mix] / len(plays) for mix in mixes] for counts in by_epoch])


def _shares_by_bin(updates: Sequence[Update], kind: str, mixes: Sequence[str]) -> np.ndarray:
    """Return the share of each mix by stretch of updates, (bins, mixes).

    Updates are gathered, weighted by episodes; a stretch without episodes of the kind is zero.
    """
    bins = min(len(updates), max(8, min(MOST_COLUMNS, len(updates) // 4)))
    counts = np.zeros((bins, len(mixes)))
    for number, update in enumerate(updates):
        found = update.by_kind.get(kind)
        if found is not None:
            play = np.array([found.play.get(mix, 0.0) for mix in mixes])
            counts[number * bins // len(updates)] += found.episodes * play
    return counts / np.maximum(counts.sum(1, keepdims=True), 1e-12)


def _stack(
    axes: Axes, places: np.ndarray, shares: np.ndarray, palette: Palette, width: float = 1.0
) -> None:
    """Stack shares (columns, mixes) at their places, one outline per mix."""
    tops = shares.cumsum(1)
    bottoms = tops - shares
    half = width * (0.44 if len(places) <= 60 else 0.5)
    for column, mix in enumerate(palette.mixes):
        boxes = [
            [(x - half, low), (x - half, high), (x + half, high), (x + half, low)]
            for x, low, high in zip(places, bottoms[:, column], tops[:, column], strict=True)
            if high - low > 1e-9
        ]
        if boxes:
            style = palette.style_of(mix)
            outline = Outline.make_compound_path(*(Outline([*b, b[0]], closed=True) for b in boxes))
            axes.add_patch(
                PathPatch(
                    outline,
                    facecolor=to_rgba(style.colour, style.opacity),
                    edgecolor=PAPER,
                    linewidth=0,
                    hatch=style.hatch or None,
                )
            )


def _mostly(shares: np.ndarray, mixes: Sequence[str], most: int = 2) -> str:
    """Name the mixes that are played most."""
    order = np.argsort(-shares, kind="stable")[:most]
    return ", ".join(f"{mixes[i]} {100 * shares[i]:.0f} %" for i in order if shares[i] > 0.005)


MOST_WORLDS = 12
"""Panels of a kind; a suite's other worlds stand in the table."""


def _drawn(run: Run, tasks: Sequence[str]) -> Sequence[str]:
    """Return the tasks that have panels: all, or of a suite some from its beginning to its end."""
    return tasks[:: -(-len(tasks) // MOST_WORLDS) or 1] if run.worlds else tasks


def _kinds(run: Run) -> list[str]:
    """Return the kinds of task met while learning: held-out ones first, in their order."""
    met = {kind for update in run.updates for kind in update.by_kind}
    return [task for task in run.tasks if task in met] + sorted(met - set(run.tasks))


def _smoothed(run: Run, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return a centred rolling mean of one kind's accuracy, weighted by episodes."""
    found = [u for u in run.updates if kind in u.by_kind]
    x = np.array([update.classifier_epochs for update in found], dtype=float)
    y = np.array([update.by_kind[kind].val_accuracy for update in found])
    weights = np.array([update.by_kind[kind].episodes for update in found], dtype=float)
    window = np.ones(min(len(found), 2 * half_window(len(found)) + 1))
    total = np.convolve(weights * y, window, mode="same")
    return _thinned(x, total / np.convolve(weights, window, mode="same"))


def half_window(updates: int) -> int:
    """Return how many neighbours on each side the rolling mean takes."""
    return max(2, updates // 16)


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average neighbours where there are more points than a reader can see."""
    parts = min(len(x), MOST_POINTS)
    return (
        np.array([part.mean() for part in np.array_split(x, parts)]),
        np.array([part.mean() for part in np.array_split(y, parts)]),
    )


def _final_val(run: Run, contestant: str, task: str) -> float | None:
    """Return mean validation accuracy at the end of held-out training runs."""
    trials = run.trials.get((contestant, task))
    return float(np.mean([t.val_curve[-1] for t in trials])) if trials else None


def _points(axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    x, y = _thinned(x.astype(float), y)
    axes.plot(x, 100 * y, ".", color=MUTED, alpha=0.7, markersize=6, markeredgewidth=0)


def _learning_axes(axes: Axes, epochs: int) -> None:
    axes.set_xlim(0, epochs * 1.01)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    _epochs_axis(axes)


def _epochs_axis(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(_thousands))
    axes.set_xlabel("classifier epochs spent")


def _share_axis(axes: Axes) -> None:
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1], ["0", "50", "100"])
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)


def _thousands(value: float, _: object = None) -> str:
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1000:g}k" if abs(value) >= 1000 else f"{value:g}"


def _three_digits(value: float, _: object = None) -> str:
    return f"{value:.3g}"


def legend(palette: Palette) -> Mapping[str, Sequence[str]]:
    """Return the mixes of each method, in the order of their stack."""
    groups: dict[str, list[str]] = {}
    for mix in palette.mixes:
        groups.setdefault(parse_mix(mix)[0], []).append(mix)
    return groups
