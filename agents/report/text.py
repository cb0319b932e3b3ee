"""What a run's numbers say, in sentences and table cells."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal

import numpy as np
import yaml

from automix.agents.contest import stats
from automix.agents.contest.by_world import harm_line
from automix.agents.report.run_files import (
    ContestantRecord,
    Difference,
    Regrets,
    Run,
    WorldRow,
)

MINUS = "\N{MINUS SIGN}"
DASH = "\N{EN DASH}"

Relation = Literal["beats", "loses to", "cannot be distinguished from"]
RELATIONS = ("beats", "loses to", "cannot be distinguished from")


@dataclass(frozen=True)
class ReportedDifferences:
    """Whose differences the report shows.

    Attributes:
        subject: The agent; without one the best fixed choice; without that nobody.
        minus: Paired differences, subject minus each other contestant, by name.
    """

    subject: str | None
    minus: Mapping[str, Difference]

    @property
    def title(self) -> str:
        """The subject in table heads."""
        return short(self.subject or "")


def reported_differences(run: Run) -> ReportedDifferences:
    """Return whose differences to show."""
    if run.agent is not None:
        enough = not too_few(run)
        minus = {name: replace(d, enough=enough) for name, d in run.agent_minus.items()}
        return ReportedDifferences(run.agent, minus)
    if run.best_fixed is None:
        return ReportedDifferences(None, {})
    ours = run.scores(run.best_fixed)
    others = [c.name for c in run.contestants if c.name != run.best_fixed]
    return ReportedDifferences(
        run.best_fixed, {name: difference(ours, run.scores(name), run) for name in others}
    )


def difference(ours: np.ndarray, theirs: np.ndarray, run: Run) -> Difference:
    """Return the paired difference of two tables of scores, as ``Run.scores`` gives them."""
    interval = stats.bootstrap(
        ours - theirs,
        stats.mean,
        whole_tasks=run.draws > 0,
        resamples=resamples(run),
        seed=int(run.setting("seed") or 0),
    )
    chance = stats.probability_of_improvement(ours, theirs)
    return Difference(
        mean=interval.value,
        ci95=[interval.low, interval.high],
        p_improvement=chance,
        enough=not too_few(run, len(ours) if run.draws else None),
    )


def resamples(run: Run) -> int:
    """Return the bootstrap draws behind every interval."""
    return int(run.setting("compare", "resamples") or 4000)


def relation(value: Difference) -> Relation:
    """Return what an interval allows to say."""
    if value.low > 0 and value.enough:
        return "beats"
    return "loses to" if value.high < 0 and value.enough else "cannot be distinguished from"


def verdict(run: Run, reported: ReportedDifferences) -> str:
    """Return the result in one sentence, or two where no agent played."""
    if reported.subject is None:
        best = run.contestants[0]
        return (
            f"No agent and no fixed choice played; the highest score has {called(best.name, run)} "
            f"with {percent(best.iqm)} % {bounds(best.low, best.high)}."
        )
    named = [name for name in ("none", "random", run.best_fixed) if name in reported.minus]
    rivals = [str(name) for name in dict.fromkeys(named)] or list(reported.minus)[:3]
    clauses = [clause for kind in RELATIONS if (clause := _clause(kind, rivals, run, reported))]
    subject = called(reported.subject, run)
    start = "" if _is_agent(reported.subject, run) else "No agent played. "
    if not clauses:
        return f"{start}{_capital(subject)} played against nobody."
    doubt = (
        f" {_pairs(run)} cannot show a difference: {stats.FEWEST_PAIRS} or more are needed."
        if too_few(run)
        else ""
    )
    return f"{start}{_capital(subject)} {'; it '.join(clauses)}.{doubt}"


def too_few(run: Run, pairs: int | None = None) -> bool:
    """Return whether no outcome of so many pairs, default all, could be significant at 0.05."""
    return (run.pairs if pairs is None else pairs) < stats.FEWEST_PAIRS


def _pairs(run: Run) -> str:
    """Return how many pairs there are, in words."""
    return f"{run.pairs} {_plural('drawn task' if run.draws else 'seed', run.pairs)}"


def tally(reported: ReportedDifferences) -> str:
    """Count wins, losses and undecided comparisons, and name all that are not wins."""
    groups: dict[str, list[str]] = {}
    for name, value in reported.minus.items():
        groups.setdefault(relation(value), []).append(short(name))
    if len(groups) == 1:
        return f"It {next(iter(groups))} {_all(len(reported.minus))}."
    parts = []
    for verb in RELATIONS:
        names = groups.get(verb, [])
        known = f" ({', '.join(names)})" if verb != "beats" else ""
        parts += [f"{verb} {len(names)}{known}"] if names else []
    return f"Of all {len(reported.minus)} others it {_listed(parts)}."


def rivals_by_task(run: Run, reported: ReportedDifferences) -> list[str]:
    """Return what the subject is measured against task by task; nothing if there is one task."""
    if len(run.tasks) < 2:
        return []
    named = [name for name in (run.best_fixed, "none") if name in reported.minus]
    return [str(name) for name in dict.fromkeys(named)] or list(reported.minus)[:1]


def by_task(run: Run, reported: ReportedDifferences, rival: str) -> list[Difference]:
    """Return the subject minus one rival, for each kind of task."""
    assert reported.subject is not None
    pairs = [(run.scores(reported.subject, task), run.scores(rival, task)) for task in run.tasks]
    return [difference(ours, theirs, run) for ours, theirs in pairs]


def where(run: Run, reported: ReportedDifferences) -> str:
    """Say on how many kinds of task the subject is ahead of its main rival."""
    rivals = rivals_by_task(run, reported)
    if not rivals:
        return ""
    relations = [relation(value) for value in by_task(run, reported, rivals[0])]
    parts = [
        f"{word} on {relations.count(verb)}"
        for verb, word in zip(RELATIONS, ("ahead", "behind", "undecided"), strict=True)
        if verb in relations
    ]
    each = "Cell by cell" if run.draws else "Kind by kind"
    each = "World by world" if run.worlds else each
    return f"{each} against {short(rivals[0])} it is {_listed(parts)} of {len(run.tasks)}."


def scope(run: Run) -> str:
    """Say what the numbers are means of."""
    seeds = len(run.seeds)
    kinds = run.contestants[0].n // seeds
    if run.draws:
        trainings = run.contestants[0].n
        return (
            f"{run.draws} drawn held-out {_plural('task', run.draws)} \N{MULTIPLICATION SIGN} "
            f"{trainings // run.draws} {_plural('training run', trainings // run.draws)} "
            f"({seed_range(run.seeds)}) = {trainings} {_plural('training run', trainings)} each"
        )
    return (
        f"{kinds} {_plural('kind', kinds)} of held-out task \N{MULTIPLICATION SIGN} {seeds} "
        f"{_plural('seed', seeds)} ({seed_range(run.seeds)}) = "
        f"{kinds * seeds} {_plural('training run', kinds * seeds)} each"
    )


def warnings(run: Run) -> list[str]:
    """Return what the reader must know before believing the numbers."""
    found = [f"Images: {warning}." for images in run.images for warning in images.warnings]
    if too_few(run):
        smallest = stats.smallest_p(run.pairs)
        found.append(
            f"With {_pairs(run)} a paired sign-flip test over them cannot give a p below "
            f"{smallest:.3g}: significance at 0.05 takes {stats.FEWEST_PAIRS} or more."
        )
    broken = [f"{short(c.name)} {c.diverged}" for c in run.contestants if c.diverged]
    if broken:
        found.append(
            f"Training runs that diverged, out of {run.contestants[0].n} each: {', '.join(broken)}."
        )
    return found


def cell_size(run: Run) -> str:
    """Return how many training runs a contestant has on each kind of task, or in each cell."""
    sizes = sorted({len(run.trials[run.contestants[0].name, task]) for task in run.tasks})
    return str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"


def oracle(run: Run) -> list[str]:
    """Say how far the agent and the best fixed choice are from each task's best fixed choice."""
    if run.oracle is None:
        return []
    intro = (
        f"Regret: how much better the best of {run.oracle.choices} fixed choices of each single "
        "task is."
    )
    hindsight, fair = run.oracle.hindsight, run.oracle.cross_fitted
    if fair is None:
        luck = "Picked and scored on the same training runs, so that it is too large by luck"
        return [f"{intro} {luck}: {_regrets(run, hindsight)}{_share(hindsight)}."]
    picked = f"Picked on a task's other training runs: {_regrets(run, fair)}"
    luck = "Picked in hindsight, on the same training runs, it is too large by luck"
    return [f"{intro} {picked}{_share(fair)}.", f"{luck}: {_regrets(run, hindsight)}."]


def _regrets(run: Run, regrets: Regrets) -> str:
    values = regrets.regret
    subjects = [c.name for c in run.contestants if c.kind == "agent" or c.name == run.best_fixed]
    return ", ".join(
        f"{called(name, run)} {points(values[name].mean)} "
        f"[{points(values[name].low)}, {points(values[name].high)}] points"
        for name in sorted(subjects, key=lambda name: name == run.best_fixed)
        if name in values
    )


def _share(regrets: Regrets) -> str:
    ratio = regrets.ratio
    if ratio is None:
        return ""
    return f"; the one is {ratio.mean:.2f} [{ratio.low:.2f}, {ratio.high:.2f}] of the other"


def world_row(row: WorldRow) -> dict[str, Any]:
    """Return the cells of one world."""
    minus, scores = row.agent_minus_none, (row.none, row.best_fixed, row.agent)
    return {
        "world": row.world,
        "counts": (row.tasks, row.n),
        "scores": [DASH if score is None else percent(score) for score in scores],
        "minus": minus and f"{points(minus.mean)} [{points(minus.low)}, {points(minus.high)}]",
        "harmed": row.harmed,
    }


def world_lines(run: Run) -> list[str]:
    """Say what a suite's worlds show together."""
    if not run.worlds:
        return []
    lines = [harm_line([vars(row) for row in run.worlds])]
    minus = [
        f"{called(name, run)} {points(one.mean)} [{points(one.low)}, {points(one.high)}]"
        for name, one in run.agent_minus_over_worlds.items()
    ]
    if minus:
        lines.append(f"Over worlds, each counted once, the agent minus {', '.join(minus)} points.")
    return [line for line in lines if line]


def found(run: Run) -> list[tuple[str, str]]:
    """Return what each control found, runs of equal choices gathered."""
    return [
        (
            name,
            ", ".join(f"{mix} \N{MULTIPLICATION SIGN} {len([*same])}" for mix, same in groupby(f)),
        )
        for name, f in run.found.items()
    ]


def short(name: str) -> str:
    """Return a contestant's name without its kind."""
    return name.removeprefix("fixed:")


def called(name: str, run: Run) -> str:
    """Return a contestant's name in a sentence."""
    picked = name == run.best_fixed
    if name == "none":
        note = " (the best fixed choice, picked on validation)" if picked else ""
        return f"no mixing{note}"
    if picked:
        return f"the best fixed choice ({short(name)}, picked on validation)"
    if _is_agent(name, run):
        return "the agent"
    return "random choice" if name == "random" else short(name)


def seed_range(seeds: Sequence[int]) -> str:
    """Return seeds in few words."""
    low, high = min(seeds), max(seeds)
    if len(seeds) > 1 and high - low == len(seeds) - 1:
        return f"{low}{DASH}{high}"
    shown = ", ".join(map(str, seeds[:6]))
    return f"{shown}, ..." if len(seeds) > 6 else shown


def percent(share: float, digits: int = 1) -> str:
    """Return a share in per cent, without the sign."""
    return f"{100 * share:.{digits}f}"


def points(share: float, digits: int = 1) -> str:
    """Return a difference in percentage points, with its sign."""
    text = f"{100 * share:+.{digits}f}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", MINUS)


def bounds(low: float, high: float) -> str:
    """Return an interval of shares, in per cent."""
    return f"[{percent(low)}, {percent(high)}]"


def signed_bounds(value: Difference) -> str:
    """Return an interval of differences, in points."""
    digits = _digits(value)
    return f"[{points(value.low, digits)}, {points(value.high, digits)}]"


def signed(value: Difference) -> str:
    """Return a difference in points."""
    return points(value.mean, _digits(value))


def count(number: float) -> str:
    """Return a large number, readable."""
    for unit, name in ((1e9, "G"), (1e6, "M")):
        if abs(number) >= unit:
            return f"{number / unit:.1f} {name}"
    return f"{number:,.0f}"


def duration(seconds: float) -> str:
    """Return a time span, readable."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def costs(run: Run) -> list[tuple[str, str]]:
    """Return what the run cost, in every currency that was counted."""
    learning = run.learning or {}
    rows = [
        ("wall time", f"{duration(run.wall_s)}, learning and comparison together"),
        ("of which learning", duration(learning["wall_s"]) if "wall_s" in learning else ""),
        ("episodes learned from", count(learning["episodes"]) if "episodes" in learning else ""),
        ("updates of the agent", count(learning["updates"]) if "updates" in learning else ""),
        ("classifier epochs, all", count(sum(c.epochs_spent for c in run.contestants))),
        ("samples passed, all", count(sum(c.passes for c in run.contestants))),
    ]
    return [(name, text) for name, text in rows if text]


def commands(run: Run) -> list[str]:
    """Return the commands that made the run and draw its page."""
    return [run.command, f"python run.py report {shlex.quote(f'runs/{run.name}')}"]


def settings_table(config: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return sections of (dotted key, value), as the command line takes them."""
    sections: dict[str, list[tuple[str, str]]] = {}
    for key, value in config.items():
        nested = isinstance(value, Mapping)
        sections.setdefault(str(key) if nested else "run", []).extend(_flat(str(key), value))
    return list(sections.items())


def best(values: Iterable[float | None], highest: bool = True) -> str | None:
    """Return the best of some values as it is printed, so that ties are marked together."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return percent(max(known) if highest else min(known))


def contestant_row(
    contestant: ContestantRecord, run: Run, reported: ReportedDifferences
) -> dict[str, Any]:
    """Return the cells of one contestant."""
    minus = reported.minus.get(contestant.name)
    return {
        "name": contestant.name,
        "short": short(contestant.name),
        "kind": contestant.kind,
        "subject": contestant.name == reported.subject,
        "picked": contestant.name == run.best_fixed,
        "iqm": percent(contestant.iqm),
        "bounds": bounds(contestant.low, contestant.high),
        "error": _maybe_percent(contestant.ece),
        "minus": minus and (signed(minus), signed_bounds(minus)),
        "relation": minus and relation(minus),
        "chance": minus and f"{100 * minus.p_improvement:.0f} %",
        "epochs": count(contestant.epochs_spent),
        "passes": count(contestant.passes),
        "tasks": [percent(contestant.by_task[task]) for task in run.tasks],
    }


def _maybe_percent(share: float | None) -> str | None:
    return None if share is None else percent(share)


def _clause(kind: str, rivals: Sequence[str], run: Run, reported: ReportedDifferences) -> str:
    """Return one verb with all contestants that it is about, or nothing."""
    found = [
        (name, reported.minus[name]) for name in rivals if relation(reported.minus[name]) == kind
    ]
    if kind == "cannot be distinguished from":
        parts = [f"{called(name, run)}: {signed(d)} points {signed_bounds(d)}" for name, d in found]
        joined = ", nor from ".join(parts)
    else:
        parts = [f"{called(name, run)} by {_size(d)}" for name, d in found]
        joined = _listed(parts)
    return f"{kind} {joined}" if parts else ""


def _size(value: Difference) -> str:
    """Return how large a difference is, whoever is ahead."""
    digits = _digits(value)
    low, high = sorted((abs(value.low), abs(value.high)))
    return (
        f"{percent(abs(value.mean), digits)} points "
        f"[{percent(low, digits)}, {percent(high, digits)}]"
    )


def _digits(value: Difference) -> int:
    """Return enough digits that an end of the interval beside zero does not look like zero."""
    for digits in (1, 2):
        ends = [100 * end for end in (value.low, value.high) if end]
        if all(round(end, digits) for end in ends):
            return digits
    return 3


def _flat(key: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        return [row for name, inner in value.items() for row in _flat(f"{key}.{name}", inner)]
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return [(key, text.removesuffix("...\n").strip())]


def _is_agent(name: str, run: Run) -> bool:
    contestant = run.contestant(name)
    return contestant is not None and contestant.kind == "agent"


def _listed(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _all(others: int) -> str:
    return "the only other" if others == 1 else f"all {others} others"


def _plural(word: str, number: int) -> str:
    return word if number == 1 else f"{word}s"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
