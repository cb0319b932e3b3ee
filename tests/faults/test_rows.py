"""Each row of docs/faults.md is shown by the tests that it names."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
ROWS = range(1, 30)


def marked() -> dict[int, set[str]]:
    """Return the files whose tests carry the mark of each row."""
    found: dict[int, set[str]] = defaultdict(set)
    for path in HERE.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.row":
                (number,) = node.args
                found[ast.literal_eval(number)].add(path.name)
    return dict(found)


def test_every_row_has_a_test():
    assert sorted(marked()) == list(ROWS)


def test_the_page_names_them():
    page = (HERE.parents[1] / "docs" / "faults.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if re.match(r"\| \d+ \|", line)]
    told = {
        int(line.split("|")[1]): set(re.findall(r"`(test_\w+\.py)`", line.split("|")[-2]))
        for line in lines
    }
    assert told == marked()
