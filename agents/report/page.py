"""Put sentences and pictures on the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from automix.agents.contest.controls import CONTROLS
from automix.agents.contest.own_training import OWN_TRAINING, SETTLING
from automix.agents.contest.schedules import SCHEDULES
from automix.agents.learning.scope import scope_lines
from automix.agents.report import figures, text
from automix.agents.report.drawing import HATCHES, Painter, Palette, Picture, page_style
from automix.agents.report.figures import CurveStyle, Panel
from automix.agents.report.frame import fill
from automix.agents.report.learned import Learned, importance_picture, learned_of
from automix.agents.report.run_files import Run
from automix.agents.report.text import ReportedDifferences
from automix.core.registry import Registry
from automix.mixes import MIXES


@dataclass(frozen=True)
class Drawings:
    """All pictures of a page."""

    scores: Picture
    differences: Picture | None = None
    by_task: Sequence[Panel] = field(default_factory=list)
    played: Sequence[Panel] = field(default_factory=list)
    play_while_learning: Sequence[Panel] = field(default_factory=list)
    learning: Picture | None = None
    learning_by_kind: Sequence[Panel] = field(default_factory=list)
    diagnostics: Sequence[Panel] = field(default_factory=list)
    training: Sequence[Panel] = field(default_factory=list)
    importance: Picture | None = None

    def all(self) -> list[Picture]:
        """Return every picture once."""
        single = [self.scores, self.differences, self.learning, self.importance]
        panels = (
            self.by_task,
            self.played,
            self.play_while_learning,
            self.learning_by_kind,
            self.diagnostics,
            self.training,
        )
        return [p for p in single if p is not None] + [
            panel.picture for group in panels for panel in group
        ]


def render(run: Run) -> tuple[str, list[Picture]]:
    """Return the page and its pictures."""
    reported = text.reported_differences(run)
    explained = learned_of(run)
    palette = figures.palette_of(run)
    with page_style():
        drawings = _draw(run, reported, explained, Painter(palette))
    page = fill(
        "report.html",
        run=run,
        reported=reported,
        drawings=drawings,
        learned=explained,
        swatches={mix: _swatch(mix, palette) for mix in palette.mixes},
        colours=palette.variables(),
        mixes=_mix_legend(palette),
        lines=[_line_legend(line, palette) for line in figures.curves_of(run, palette)],
        half_window=figures.half_window(len(run.updates)),
        **_texts(run, reported),
    )
    return page, drawings.all()


def _draw(
    run: Run, reported: ReportedDifferences, explained: Learned | None, painter: Painter
) -> Drawings:
    learned = bool(run.updates)
    return Drawings(
        scores=figures.scores(run, reported, painter),
        differences=figures.differences(run, reported, painter) if reported.minus else None,
        by_task=figures.differences_by_task(run, reported, painter),
        played=figures.played(run, run.agent, painter) if run.agent else [],
        play_while_learning=figures.play_while_learning(run, painter) if learned else [],
        learning=figures.learning_curve(run, painter) if learned else None,
        learning_by_kind=figures.learning_curves(run, painter) if learned else [],
        diagnostics=figures.diagnostics(run, painter) if learned else [],
        training=figures.training_curves(run, painter),
        importance=importance_picture(explained.bars, painter) if explained else None,
    )


def _texts(run: Run, reported: ReportedDifferences) -> dict[str, Any]:
    """Return all sentences and table cells of the page."""
    rows = [text.contestant_row(contestant, run, reported) for contestant in run.contestants]
    return {
        "verdict": text.verdict(run, reported),
        "scope": text.scope(run),
        "tally": text.tally(reported) if reported.minus else "",
        "where": text.where(run, reported),
        "commands": text.commands(run),
        "warnings": text.warnings(run),
        "rows": rows,
        "best_iqm": text.best(c.iqm for c in run.contestants),
        "best_error": text.best((c.ece for c in run.contestants), highest=False),
        "best_task": [text.best(c.by_task[task] for c in run.contestants) for task in run.tasks],
        "costs": text.costs(run),
        "settings": text.settings_table(run.config),
        "machine": text.settings_table(run.machine),
        "resamples": text.resamples(run),
        "cell_size": text.cell_size(run),
        "oracle": text.oracle(run),
        "worlds": [text.world_row(row) for row in run.worlds],
        "best_fixed": run.best_fixed and text.short(run.best_fixed),
        "world_lines": text.world_lines(run),
        "scope_lines": scope_lines(run.scope) if run.scope and not run.learning else [],
        "found": text.found(run),
        "contestants": [
            summary
            for registry in (SCHEDULES, CONTROLS, OWN_TRAINING, SETTLING)
            for summary in _summaries(registry, [c.name for c in run.contestants])
        ],
        "methods": _summaries(MIXES, run.setting("env", "actions", "methods") or []),
    }


def _summaries(registry: Registry[Any, Any], names: Iterable[str]) -> list[tuple[str, str]]:
    """Return what the registry says about those of the names that it knows."""
    return [
        (name, registry.entry(name).summary.replace("``", "")) for name in names if name in registry
    ]


def _mix_legend(palette: Palette) -> list[dict[str, Any]]:
    return [
        {"method": method, "entries": [_swatch(mix, palette) for mix in group]}
        for method, group in figures.legend(palette).items()
    ]


def _swatch(mix: str, palette: Palette) -> dict[str, Any]:
    """Return how the page shows the look of a mix."""
    variables = {pair[0]: name for name, pair in palette.variables().items()}
    style = palette.style_of(mix)
    return {
        "text": mix.partition("@")[2],
        "colour": variables[style.colour],
        "opacity": f"{style.opacity:.2f}",
        "hatch": HATCHES.index(style.hatch),
    }


def _line_legend(line: CurveStyle, palette: Palette) -> dict[str, str]:
    variables = {pair[0]: name for name, pair in palette.variables().items()}
    return {
        "text": text.short(line.name),
        "colour": variables[line.colour],
        "dash": {"-": "solid", "--": "dashed", ":": "dotted"}[line.dash],
        "width": f"{line.width:.1f}",
    }
