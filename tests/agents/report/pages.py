"""A page as a reader meets it."""

from __future__ import annotations

from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

from automix.agents.report import text, write_report
from automix.agents.report.run_files import read_run


class Page(HTMLParser):
    """A page as a reader meets it: texts by element, and what it would load."""

    def __init__(self, path: Path):
        super().__init__()
        self.tags, self.links, self.cells, self.labels = Counter(), [], [], []
        self.text, self.verdict, self._open = "", "", []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags[tag] += 1
        self.links += [v for k, v in attrs.items() if k in ("src", "href", "xlink:href", "data")]
        if tag in ("td", "th"):
            self.cells.append("")
            assert tag == "td" or attrs["scope"] in ("row", "col", "rowgroup")
        if tag == "svg":
            assert attrs["role"] == "img"
            self.labels.append(attrs["aria-label"])
        self._open.append("verdict" if attrs.get("class") == "verdict" else tag)

    def handle_endtag(self, tag):
        while self._open and self._open.pop() not in (tag, "verdict"):
            pass

    def handle_data(self, data):
        self.text += data
        if "verdict" in self._open:
            self.verdict += data
        if {"td", "th"} & set(self._open):
            self.cells[-1] += data


def verdict_of(run):
    found = read_run(run)
    return text.verdict(found, text.reported_differences(found))


def page_of(run):
    return Page(write_report(run))
