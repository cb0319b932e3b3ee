"""The startup benchmark on planted seconds: no process is started."""

from __future__ import annotations

import pytest

from benchmarks.measures import startup

WALL = {
    "python -c ''": 0.1,
    "run.py --help": 0.4,
    "import torch, timm": 2.0,
    "torch, timm, automix.training.population": 2.5,
    "first env step": 3.0,
}
IMPORTS = [{"automix": 0.01, "automix.training.population": took} for took in (0.2, 0.1, 9.0)]


def test_a_process_is_compared_with_what_it_cannot_be_faster_than():
    rows = {row["process"]: row for row in startup.section(WALL, IMPORTS).rows}
    assert set(WALL) == set(startup.COMMANDS)
    assert rows["run.py --help"]["times the limit"] == pytest.approx(4.0)
    assert rows["first env step"]["times the limit"] == pytest.approx(1.5)
    assert rows["import automix.training.population, after torch and timm"]["s"] == 0.2


def test_help_is_wanted_in_a_second_and_the_library_in_three_tenths():
    for help_s, import_s in (0.9, 0.29), (1.1, 0.29), (0.9, 0.31):
        imports = [{"automix": 0.01, "automix.training.population": import_s}]
        section = startup.section(WALL | {"run.py --help": help_s}, imports)
        assert [target.met for target in section.targets] == [help_s < 1, import_s < 0.3]


def test_a_process_that_fails_tells_its_last_line():
    assert startup.output(["-c", "print('fine')"]) == "fine\n"
    with pytest.raises(RuntimeError, match=r"^ValueError: no apples$"):
        startup.output(["-c", "raise ValueError('no apples')"])
