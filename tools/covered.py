"""The line and branch coverage that ``make coverage`` measured, and whether it is enough."""

from __future__ import annotations

import json
import sys
from pathlib import Path

FLOOR = 90.0
"""Per cent of the product's lines that the default run of the tests must reach."""


def verdict(report: dict[str, dict[str, float]]) -> tuple[str, bool]:
    """Return one line about a report of coverage, and whether enough lines are covered.

    Args:
        report: The content of ``coverage.json``.
    """
    totals = report["totals"]
    lines, branches = totals["percent_statements_covered"], totals["percent_branches_covered"]
    told = f"coverage: {lines:.1f} % of lines (at least {FLOOR:g}), {branches:.1f} % of branches"
    return told, lines >= FLOOR


if __name__ == "__main__":
    told, enough = verdict(json.loads(Path("coverage.json").read_text(encoding="utf-8")))
    sys.stdout.write(f"{told}\n")
    sys.exit(not enough)
