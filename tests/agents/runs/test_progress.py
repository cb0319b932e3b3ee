"""Long work says how far it is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time

import pytest

from automix.agents.cli.options import set_up_logging
from automix.agents.runs import progress as progress_module
from automix.agents.runs.progress import progress
from tests.cases import each


@pytest.fixture(autouse=True)
def _a_screen_of_its_own(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    log = logging.getLogger("automix")
    log.handlers.clear()
    yield
    log.handlers.clear()
    log.setLevel(logging.NOTSET)
    log.propagate = True


def test_elsewhere_lines_tell_what_is_done_and_the_time_left(capsys, monkeypatch):
    set_up_logging(logging.INFO)
    monkeypatch.setattr(progress_module, "PLAIN_EVERY_S", 0.0)
    with progress("learning", 4) as tick:
        time.sleep(0.2)
        tick(1, "validation accuracy 0.5")
        tick(3)
    err = capsys.readouterr().err
    first, last = err.splitlines()
    # A quarter took 0.2 s or a little more, so three times that are left.
    assert "learning 1/4, 1 s left, validation accuracy 0.5" in first
    assert "learning 4/4, 0 s left" in last


def test_lines_come_seldom_but_the_last_one_comes(capsys):
    set_up_logging(logging.INFO)
    with progress("comparing", 1000) as tick:
        for _ in range(1000):
            tick()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "comparing 1000/1000" in lines[0]


def test_a_terminal_shows_a_bar_on_stderr_and_no_lines(capsys, monkeypatch):
    set_up_logging(logging.INFO)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress("learning", 2) as tick:
        tick(1, "validation accuracy 0.5")
        tick()
    out, err = capsys.readouterr()
    assert out == ""
    assert "2/2" in err
    assert "s left" not in err


@each("why", ["no logging", "quiet", "CI"])
def test_nobody_who_does_not_want_a_bar_gets_one(capsys, monkeypatch, why):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    if why == "quiet":
        set_up_logging(logging.WARNING)
    elif why == "CI":
        monkeypatch.setenv("CI", "1")
        set_up_logging(logging.INFO)
    with progress("learning", 1) as tick:
        tick()
    out, err = capsys.readouterr()
    assert out == ""
    assert ("learning 1/1" in err) == (why == "CI")
    assert "━" not in err
