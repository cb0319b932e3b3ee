"""Results as text."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console, JustifyMethod
from rich.table import Table

from automix.agents.contest.by_world import harm_line
from automix.agents.contest.stats import FEWEST_PAIRS
from automix.agents.learning.scope import scope_lines

WIDTH = 118
"""Columns from which a table of results has one for each kind of task."""

ENDLESS = 10_000
"""Columns of a file or a pipe, which cuts nothing."""


def console() -> Console:
    """Return a console on stdout."""
    return Console() if sys.stdout.isatty() else Console(width=ENDLESS)


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    texts: int = 1,
    whole: int = 0,
) -> None:
    """Print rows; the first ``texts`` columns to the left, the others, numbers, to the right.

    Where the table is too wide, all columns give way; the one behind the first ``whole`` alone, if
    they are named.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    # Said here: left to itself, the table takes from narrow columns what it gives to wide ones.
    left = console().width - sum(widths[:whole]) - 2 * whole
    for number, column in enumerate(columns):
        justify: JustifyMethod = "left" if number < texts else "right"
        most = max(left, len(column)) if whole and number >= whole else None
        table.add_column(column, justify=justify, no_wrap=True, max_width=most)
    for row in rows:
        table.add_row(*row)
    # Not as the table's own title, which would fold to the width of a narrow table.
    console().print(title, style="bold", highlight=False, soft_wrap=True)
    console().print(table)


def print_result(result: dict[str, Any]) -> None:
    """Print the comparison, best first, with the agent's paired differences.

    Published figures stand beside the contestants that play the same, where the run names some.
    """
    # On a narrow terminal the kinds of task go; the report has them.
    worlds = result.get("worlds") or []
    tasks = result["tasks"] if console().width >= WIDTH and not worlds else []
    differences, published = result["agent_minus"], result.get("published")
    theirs = {figure["contestant"]: figure for figure in published["figures"]} if published else {}
    rows = []
    for row in result["contestants"]:
        cells = [row["name"], f"{_percent(row['iqm'])} {_interval(row['ci95'])}"]
        cells += [_percent(row["by_task"][task]) for task in tasks]
        if differences:
            cells += _difference(differences.get(row["name"]))
        cells.append(f"{row['epochs_spent']:,}")
        rows.append([*cells, _published(theirs.get(row["name"]))] if theirs else cells)
    columns = ["contestant", "IQM % [95 %]", *[_short(task) for task in tasks]]
    columns += ["agent minus it", "P"] if differences else []
    columns += ["epochs", "published"] if theirs else ["epochs"]
    print_table(_title(result), columns, rows)
    lines = [_legend(result), _footnote(result), _verdict(result), _oracle(result)]
    lines.append(_on_tuned_recipe(result))
    if worlds:
        _print_worlds(result)
        lines += [_over_worlds(result), harm_line(worlds)]
    if result.get("scope") and not result.get("learning"):
        lines += scope_lines(result["scope"])
    for line in lines:
        if line:
            console().print(line, highlight=False, soft_wrap=True)


def _on_tuned_recipe(result: dict[str, Any]) -> str:
    told = result.get("on_tuned_recipe")
    return f"On the tuned recipe, the agent minus no mixing: {_signed(told)}." if told else ""


def _print_worlds(result: dict[str, Any]) -> None:
    """Print a row a world: no mixing, the best fixed choice of all, the agent and what it gains."""
    best = result["best_fixed"]
    shares = [("none", "none")] if best == "none" else [("none", "none"), ("best_fixed", best)]
    shares += [("agent", "agent")]
    shown = [(key, name) for key, name in shares if result["worlds"][0][key] is not None]
    rows = []
    for row in result["worlds"]:
        minus = row["agent_minus_none"]
        cells = [row["world"], str(row["tasks"]), str(row["n"])]
        cells += [_percent(row[key]) for key, _ in shown]
        rows.append([*cells, _signed(minus), "harm" * bool(row["harmed"])] if minus else cells)
    columns = ["world", "tasks", "n", *(name for _, name in shown)]
    columns += ["agent minus none", ""] if len(rows[0]) > len(columns) else []
    console().print()
    print_table("test accuracy by world", columns, rows)


def _over_worlds(result: dict[str, Any]) -> str:
    minus = result["agent_minus_over_worlds"]
    if not minus:
        return ""
    parts = [f"{name} {_signed(one)}" for name, one in minus.items()]
    return f"Over worlds, each counted once, agent minus {', '.join(parts)}."


MOST_SETTINGS = 20
"""Settings of a sweep in a terminal; the page and ``summary.csv`` have all."""


def print_sweep(result: dict[str, Any]) -> None:
    """Print a sweep's settings, best first, and what each parameter explains."""
    settings = result["settings"]
    keys = list(settings[0]["values"]) if settings else []
    rows = [
        [
            *(setting["values"][key] for key in keys),
            f"{_percent(setting['val_accuracy'])}"
            + (f" {_interval(setting['ci95'])}" if setting["ci95"] else ""),
            str(setting["n"]),
            _percent(setting["test_accuracy"]),
        ]
        for setting in settings[:MOST_SETTINGS]
    ]
    title = f"{result['finished']} of {result['trials']} trials; settings by validation accuracy"
    print_table(title, [*keys, "validation % [95 %]", "n", "test %"], rows, texts=len(keys))
    lines = []
    if len(settings) > MOST_SETTINGS:
        lines.append(f"{len(settings) - MOST_SETTINGS} more are on the page.")
    if result["importance"]:
        parts = [f"{one['key']} {100 * one['share']:.0f} %" for one in result["importance"]]
        lines.append(f"Of the differences between settings explain: {', '.join(parts)}.")
    lead = result["lead"]
    if lead:
        doubt = "" if lead["enough"] else f" (n = {lead['n']}: too few to decide)"
        lines.append(f"The best minus the next, paired by seed: {_signed(lead)}{doubt}.")
    for line in lines:
        console().print(line, highlight=False, soft_wrap=True, markup=False)


def print_search(result: dict[str, Any]) -> None:
    """Print a search's trials, best first, and what became of the winner."""
    ranking, best = result["ranking"], result["best"]
    keys = list(ranking[0]["values"]) if ranking else []
    rows = [
        [
            *(row["values"][key] for key in keys),
            row["state"],
            "" if row["update"] is None else f"{row['update']}/{result['updates']}",
            "" if row["val_accuracy"] is None else _percent(row["val_accuracy"]),
            str(row["copies"]),
        ]
        for row in ranking[:MOST_SETTINGS]
    ]
    if rows:
        title = f"{result['trials']} trials; validation accuracy while they learned"
        print_table(
            title, [*keys, "state", "updates", "validation %", "copies"], rows, len(keys) + 1
        )
    if best is None:
        line = "No trial has learned to the end."
    else:
        figures = best["figures"]
        line = (
            f"Best: trial {best['trial']}, {_percent(best['val_accuracy'])} % while it learned; "
            f"compared on held-out tasks {_percent(figures['val_accuracy'])} % validation, "
            f"{_percent(figures['test_accuracy'])} % test: {best['run']}"
        )
    console().print(line, highlight=False, soft_wrap=True, markup=False)


def _title(result: dict[str, Any]) -> str:
    kinds, seeds = len(result["tasks"]), len(result["seeds"])
    scope = f"kinds x seeds = {kinds} x {seeds}"
    if result["draws"]:
        scope = f"drawn tasks x training runs = {result['draws']} x {result['trainings']}"
    return f"{result['unit']} on held-out tasks, {scope}, paired"


def _footnote(result: dict[str, Any]) -> str:
    """Return what was published, where, and what keeps it from being the same experiment."""
    published = result.get("published")
    if not published:
        return ""
    if not published["figures"]:
        return f"No figures of {published['net']} are published under {published['name']!r}."
    figures, playing = published["figures"], {row["name"] for row in result["contestants"]}
    others = [figure for figure in figures if figure["contestant"] not in playing]
    sentences = [f"published: top-1 % of {published['net']}. {published['title']}."]
    sentences.append(published["differs"])
    if others:
        rest = ", ".join(f"{figure['method']} {_published(figure)}" for figure in others)
        sentences.append(f"Not played here: {rest}.")
    if not all(figure["verified"] for figure in figures):
        sentences.append(f"{UNVERIFIED}: unverified, from memory.")
    sources = dict.fromkeys(figure["source"] for figure in figures)
    return " ".join([*sentences, f"Sources: {'; '.join(sources)}."])


UNVERIFIED = "?"
"""Stands behind a figure that nobody here has read at its source."""


def _published(figure: dict[str, Any] | None) -> str:
    if figure is None:
        return ""
    return f"{figure['top1']:.2f}" + ("" if figure["verified"] else UNVERIFIED)


def _legend(result: dict[str, Any]) -> str:
    """Return what the columns mean, and the best fixed choice."""
    sentences = ["IQM: mean of the middle half."]
    if result["agent_minus"]:
        sentences.append(
            "agent minus it: points, paired, with 95 % interval; P: chance that the agent's run is"
            " the better one."
        )
    sentences.append("epochs: classifier epochs spent, learning included.")
    if result["best_fixed"]:
        tasks = result["best_fixed_picked"]["tasks"]
        where = f" on {tasks} other tasks" if tasks else ""
        sentences.append(
            f"Best fixed choice by validation accuracy{where}: {result['best_fixed']}."
        )
    return " ".join(sentences)


def _verdict(result: dict[str, Any]) -> str:
    """Return which contestants the agent does not beat, or that there are too few pairs."""
    if not result["enough"]:
        pairs, unit = result["draws"], "drawn task"
        if not pairs:
            pairs, unit = len(result["seeds"]), "seed"
        return (
            f"{pairs} {unit}{'' if pairs == 1 else 's'} cannot show a difference: for a paired "
            f"test to reach p = 0.05, {FEWEST_PAIRS} or more are needed."
        )
    if not result["agent_minus"]:
        return ""
    if not result["not_beaten"]:
        return "The agent beats every other contestant: all intervals are above zero."
    return f"The agent does not beat: {', '.join(result['not_beaten'])}."


def _oracle(result: dict[str, Any]) -> str:
    """Return the regrets to the best fixed choice of each task, in one line."""
    oracle = result["oracle"]
    if not oracle:
        return ""
    parts = [
        f"{name}: {_regrets(oracle[key], result['best_fixed'])}"
        for key, name in (
            ("cross_fitted", "picked on a task's other training runs"),
            ("hindsight", "picked in hindsight, so by luck too"),
        )
        if oracle[key]
    ]
    return f"Regret to each task's best of {oracle['choices']} fixed choices; {'; '.join(parts)}."


def _regrets(regrets: dict[str, Any], best: str) -> str:
    own, ratio = regrets["regret"], regrets["ratio"]
    parts = [f"{name} {_signed(own[name])}" for name in ("agent", best) if name in own]
    if ratio:
        low, high = ratio["ci95"]
        parts.append(f"ratio {ratio['mean']:.2f} [{low:.2f}, {high:.2f}]")
    return ", ".join(parts)


def _difference(difference: dict[str, Any] | None) -> list[str]:
    if difference is None:
        return ["", ""]
    return [_signed(difference), f"{difference['p_improvement']:.2f}"]


def _signed(value: dict[str, Any]) -> str:
    low, high = value["ci95"]
    return f"{100 * value['mean']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def _short(task: str) -> str:
    """Turn ``200 images, 20% noise`` into ``200@20%``."""
    return task.replace(" images, ", "@").replace(" noise", "")


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _interval(bounds: Sequence[float]) -> str:
    return f"[{100 * bounds[0]:.1f}, {100 * bounds[1]:.1f}]"
