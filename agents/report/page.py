"""Put words and pictures on the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from automix.agents.contest.controls import CONTROLS
from automix.agents.contest.own_training import OWN_TRAINING
from automix.agents.contest.schedules import SCHEDULES
from automix.agents.report import figures, words
from automix.agents.report.drawing import HATCHES, Painter, Palette, Picture, page_style
from automix.agents.report.figures import CurveStyle, Panel
from automix.agents.report.frame import fill
from automix.agents.report.learned import Learned, importance_picture, learned_of
from automix.agents.report.run_files import Run
from automix.agents.report.words import ReportedDifferences
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
    view = words.view_of(run)
    explained = learned_of(run)
    palette = figures.palette_of(run)
    with page_style():
        drawings = _draw(run, view, explained, Painter(palette))
    page = fill(
        "report.html",
        run=run,
        view=view,
        drawings=drawings,
        learned=explained,
        swatches={mix: _swatch(mix, palette) for mix in palette.mixes},
        colours=palette.variables(),
        mixes=_mix_legend(palette),
        lines=[_line_legend(line, palette) for line in figures.lines_of(run, palette)],
        half_window=figures.half_window(len(run.updates)),
        **_texts(run, view),
    )
    return page, drawings.all()


def _draw(
    run: Run, view: ReportedDifferences, explained: Learned | None, painter: Painter
) -> Drawings:
    agent = next((c.name for c in run.contestants if c.kind == "agent"), None)
    learned = bool(run.updates)
    return Drawings(
        scores=figures.scores(run, view, painter),
        differences=figures.differences(run, view, painter) if view.minus else None,
        by_task=figures.differences_by_task(run, view, painter),
        played=figures.played(run, agent, painter) if agent else [],
        play_while_learning=figures.play_while_learning(run, painter) if learned else [],
        learning=figures.learning_curve(run, painter) if learned else None,
        learning_by_kind=figures.learning_curves(run, painter) if learned else [],
        diagnostics=figures.diagnostics(run, painter) if learned else [],
        training=figures.training_curves(run, painter),
        importance=importance_picture(explained.bars, painter) if explained else None,
    )


def _texts(run: Run, view: ReportedDifferences) -> dict[str, Any]:
    """Return everything on the page that is words."""
    rows = [words.contestant_row(contestant, run, view) for contestant in run.contestants]
    return {
        "verdict": words.verdict(run, view),
        "scope": words.scope(run),
        "tally": words.tally(view) if view.minus else "",
        "where": words.where(run, view),
        "commands": words.commands(run),
        "warnings": words.warnings(run),
        "rows": rows,
        "best_iqm": words.best(c.iqm for c in run.contestants),
        "best_error": words.best((c.calibration_error for c in run.contestants), highest=False),
        "best_task": [words.best(c.by_task[task] for c in run.contestants) for task in run.tasks],
        "costs": words.costs(run),
        "settings": words.settings_table(run.config),
        "machine": words.settings_table(run.machine),
        "resamples": words.resamples(run),
        "cell_size": words.cell_size(run),
        "oracle": words.oracle(run),
        "found": words.found(run),
        "contestants": [
            summary
            for registry in (SCHEDULES, CONTROLS, OWN_TRAINING)
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
    look = palette.look(mix)
    return {
        "text": mix.partition("@")[2],
        "colour": variables[look.colour],
        "opacity": f"{look.opacity:.2f}",
        "hatch": HATCHES.index(look.hatch),
    }


def _line_legend(line: CurveStyle, palette: Palette) -> dict[str, str]:
    variables = {pair[0]: name for name, pair in palette.variables().items()}
    return {
        "text": words.short(line.name),
        "colour": variables[line.colour],
        "dash": {"-": "solid", "--": "dashed", ":": "dotted"}[line.dash],
        "width": f"{line.width:.1f}",
    }
