"""Results as text."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from automix.stats import smallest_p

WIDTH = 118
"""Columns where no terminal says; logs and pipes."""


def console() -> Console:
    """Return a console on stdout that does not fold tables in pipes."""
    return Console() if sys.stdout.isatty() else Console(width=WIDTH)


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1
) -> None:
    """Print rows; the first ``words`` columns to the left, the others, numbers, to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < words else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    # Not as the table's own title, which would fold to the width of a narrow table.
    console().print(title, style="bold", highlight=False, soft_wrap=True)
    console().print(table)


def print_result(result: dict[str, Any]) -> None:
    """Print the comparison, best first, with the agent's paired differences."""
    # On a narrow terminal the kinds of task go; the report has them.
    tasks = result["tasks"] if console().width >= WIDTH else []
    differences = result["agent_minus"]
    rows = []
    for row in result["contestants"]:
        cells = [row["name"], f"{_percent(row['iqm'])} {_interval(row['ci95'])}"]
        cells += [_percent(row["by_task"][task]) for task in tasks]
        if differences:
            cells += _difference(differences.get(row["name"]))
        rows.append([*cells, f"{row['epochs_spent']:,}"])
    columns = ["contestant", "IQM % [95 %]", *[_short(task) for task in tasks]]
    columns += ["agent minus it", "P"] if differences else []
    kinds, seeds = len(result["tasks"]), len(result["seeds"])
    title = f"{result['unit']} on held-out tasks, kinds x seeds = {kinds} x {seeds}, paired"
    print_table(title, [*columns, "epochs"], rows)
    console().print(_legend(result), highlight=False, soft_wrap=True)


def _legend(result: dict[str, Any]) -> str:
    """Return what the columns mean, and the best fixed choice."""
    words = ["IQM: mean of the middle half."]
    if result["agent_minus"]:
        words.append(
            "agent minus it: points, paired, with 95 % interval; P: chance that the agent's run is"
            " the better one."
        )
    words.append("epochs: classifier epochs spent, learning included.")
    if result["best_fixed"]:
        words.append(f"Best fixed choice by validation accuracy: {result['best_fixed']}.")
    seeds = len(result["seeds"])
    if smallest_p(seeds) > 0.05:
        words.append(f"{seeds} seeds are too few for a paired test to reach p = 0.05.")
    return " ".join(words)


def _difference(difference: dict[str, Any] | None) -> list[str]:
    if difference is None:
        return ["", ""]
    low, high = difference["ci95"]
    text = f"{100 * difference['mean']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
    return [text, f"{difference['p_improvement']:.2f}"]


def _short(task: str) -> str:
    """Turn ``200 images, 20% noise`` into ``200@20%``."""
    return task.replace(" images, ", "@").replace(" noise", "")


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _interval(bounds: Sequence[float]) -> str:
    return f"[{100 * bounds[0]:.1f}, {100 * bounds[1]:.1f}]"
