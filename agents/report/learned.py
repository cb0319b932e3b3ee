"""What the agent learned, for a person: its play as a table, what it looks at, and its rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from pydantic import FiniteFloat

from automix.agents.contest.rule_words import (
    RuleLine,
    called,
    fidelity_sentences,
    rule_lines,
    used_observations,
)
from automix.agents.report.drawing import INK, MUTED, Margins, Painter, Picture, parse_mix
from automix.agents.report.run_files import Interval, Run, TrialRecord, checked
from automix.policy.observations import OBSERVATIONS
from automix.policy.rule import rule_of

WIDTH, ROW = 410.0, 20.0
"""Pixels of the picture, and of one of its rows; as in the other plots with names at the left."""

MOST_NAMED = 3
"""Observations named in a sentence as those that matter most."""

SMALL = 0.01
"""Share of changed choices below which an observation hardly matters."""


@dataclass(frozen=True)
class MixSpan:
    """Epochs in a row with the same most frequent mix on one kind of task."""

    epochs: str
    mix: str
    share: str
    """In how many of the training runs it is played, mean over the epochs."""
    ratio: str
    """Mean wanted ratio, whatever is played."""
    realised: str
    """Mean realised partner share."""


@dataclass(frozen=True)
class Bar:
    """How much one observation matters."""

    observation: str
    changed: FiniteFloat
    """Share of choices that change when it is permuted."""
    std: FiniteFloat


@dataclass(frozen=True)
class Importance:
    """How much each observation matters, or why that is not known."""

    observations: list[Bar] = field(default_factory=list)
    unavailable: str = ""

    def __post_init__(self) -> None:
        if not self.observations and not self.unavailable:
            raise ValueError("observations, or why they are unavailable")


@dataclass(frozen=True)
class Majority:
    """The choice that is most frequent, and in which share of epochs it is the agent's."""

    choice: str
    fidelity: FiniteFloat


@dataclass(frozen=True)
class Sample:
    """What a rule was fitted to, or tried on."""

    trials: int
    states: int


@dataclass(frozen=True)
class RuleFigures:
    """What the sentences about a rule say beside the rule itself."""

    fidelity: FiniteFloat
    ci95: Interval
    by_epoch: FiniteFloat
    epochs: int
    majority: Majority
    fitted: Sample
    held_out: Sample
    parts: dict[str, list[Any]]


@dataclass(frozen=True)
class Explanation:
    """What ``result.json`` says of an agent's choices."""

    importance: Importance
    rule: RuleFigures


@dataclass(frozen=True)
class Learned:
    """The content of the section beyond its strips."""

    plays: Sequence[tuple[str, Sequence[MixSpan]]]
    bars: Sequence[Bar] = field(default_factory=list)
    bars_text: str = ""
    rule: Sequence[RuleLine] = field(default_factory=list)
    rule_text: Sequence[str] = field(default_factory=list)
    glossary: Sequence[tuple[str, str]] = field(default_factory=list)
    """The observations that the rule asks for, or that matter most, and what they are."""


def learned_of(run: Run) -> Learned | None:
    """Return what the section says; None if no agent played.

    Raises:
        DataError: If the explanation in ``result.json`` is damaged.
    """
    if run.agent is None:
        return None
    plays = [(task, _mix_spans(run.trials[run.agent, task])) for task in run.tasks]
    if run.explanation is None or "unavailable" in run.explanation:
        return Learned(plays)
    where = f"{run.name}/result.json: explanation"
    importance = checked(Explanation, run.explanation, where).importance
    bars, rule = importance.observations, run.explanation["rule"]
    asked = used_observations(rule_of(rule, f"{where}: rule"))
    matter = [bar.observation for bar in bars[:MOST_NAMED] if bar.changed >= SMALL]
    return Learned(
        plays,
        bars,
        importance_text(importance),
        rule_lines(rule, f"{where}: rule"),
        fidelity_sentences(rule),
        _glossary(dict.fromkeys([*asked, *matter])),
    )


def importance_picture(bars: Sequence[Bar], painter: Painter) -> Picture | None:
    """Draw how many choices change when each observation is permuted."""
    if not bars:
        return None
    rows = np.arange(len(bars))
    values = np.array([100 * bar.changed for bar in bars])
    spreads = np.array([100 * bar.std for bar in bars])
    right = max(1.0, float((values + spreads).max()))

    def paint(axes: Axes) -> None:
        axes.barh(rows, values, height=0.62, color=INK)
        axes.hlines(rows, values - spreads, values + spreads, MUTED, linewidth=1.6)
        for row, (value, spread) in enumerate(zip(values, spreads, strict=True)):
            axes.text(value + spread + 0.02 * right, row, _percent(value / 100), va="center")
        axes.set_yticks(rows, [bar.observation for bar in bars])
        for label in axes.get_yticklabels():
            label.set_color(INK)
        axes.set_ylim(len(bars) - 0.4, -0.6)
        axes.set_xlim(0, 1.2 * right)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("choices that change, %")

    shares = ", ".join(f"{bar.observation} {_percent(bar.changed)}" for bar in bars)
    label = f"Choices of the agent that change when one observation is shuffled: {shares}"
    left = min(240.0, 14 + 6.6 * max(len(bar.observation) for bar in bars))
    return painter.draw(
        "importance",
        label,
        (WIDTH, ROW * len(bars) + 52),
        paint,
        Margins(left=left, bottom=44, top=8),
    )


def importance_text(importance: Importance) -> str:
    """Say which observations matter, or why that is not known."""
    bars = importance.observations
    if not bars:
        return f"Not available: {importance.unavailable}."
    strong = [bar for bar in bars if bar.changed >= SMALL]
    if not strong:
        return "Its choice hardly depends on any single observation."
    named = [f"{called(bar.observation)} ({_percent(bar.changed)})" for bar in strong[:MOST_NAMED]]
    weak = len(bars) - len(strong)
    ending = f"; {weak} of the {len(bars)} change less than 1 % each" if weak else ""
    return (
        f"Its choice depends most on {_listed(named)}: in brackets, how many of its choices change "
        f"when this is taken from another epoch or training run{ending}."
    )


def _glossary(names: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(n, OBSERVATIONS.entry(n).summary) for n in names if n in OBSERVATIONS]


def _mix_spans(trials: Sequence[TrialRecord]) -> list[MixSpan]:
    """Gather epochs whose most frequent mix is the same."""
    counts = [Counter(epoch) for epoch in zip(*(t.mixes for t in trials), strict=True)]
    usual = [epoch.most_common(1)[0][0] for epoch in counts]
    starts = [e for e in range(len(usual)) if e == 0 or usual[e] != usual[e - 1]]
    return [
        _mix_span(first, end, usual[first], counts, trials)
        for first, end in zip(starts, [*starts[1:], len(usual)], strict=True)
    ]


def _mix_span(
    first: int, end: int, mix: str, counts: Sequence[Counter[str]], trials: Sequence[TrialRecord]
) -> MixSpan:
    share = np.mean([counts[epoch][mix] / len(trials) for epoch in range(first, end)])
    ratio = np.mean([parse_mix(mix)[1] for trial in trials for mix in trial.mixes[first:end]])
    realised = np.mean([trial.partner_by_epoch[first:end] for trial in trials])
    return MixSpan(
        str(end) if end == first + 1 else f"{first + 1}\N{EN DASH}{end}",
        mix,
        _percent(float(share)),
        f"{ratio:.2f}",
        f"{realised:.2f}",
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _listed(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
