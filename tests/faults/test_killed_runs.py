"""A run that is killed anywhere and resumed comes to what it would have come to."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from automix.agents.config.settings import RunSettings
from automix.agents.jobs.run import train_or_resume
from automix.agents.parallel.pool import start_workers
from tests.agents import tiny_run
from tests.faults.killing import (
    assert_nobody_left,
    ended,
    forked,
    group_of,
    results_of,
    run_killed_after,
    run_killed_at,
    sleeps,
)

SETTINGS = tiny_run.settings(
    "checkpoint.share=1.0", "compare.contestants=[agent,none,random]", "compare.seeds=1"
)
"""A checkpoint after every epoch, so that there is most to go wrong."""

KILLS = 100
"""Of each soak test."""


@pytest.fixture(autouse=True)
def plain_report(monkeypatch) -> None:
    """Draw nothing, which takes longest; ``test_killed_early.py`` kills reports."""
    monkeypatch.setattr("automix.agents.report.page.render", lambda read: ("<html></html>", []))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, object]:
    path = tmp_path_factory.mktemp("runs") / "undisturbed"
    train_or_resume(SETTINGS, path)
    return results_of(path)


def finish(settings: RunSettings, path: Path) -> dict[str, object]:
    assert train_or_resume(settings, path)
    return results_of(path)


@pytest.mark.fault
@pytest.mark.timeout(1800)  # a busy machine takes five minutes for one of them
@pytest.mark.parametrize("first", range(10))
def test_it_may_be_killed_at_any_write(tmp_path, undisturbed, first):
    """Each of these tests takes every tenth place; every place is somebody's."""
    write, done = first, False
    while not done:
        path = tmp_path / str(write)
        done = run_killed_at(write, SETTINGS, path)
        assert finish(SETTINGS, path) == undisturbed, write
        write += 10
    assert write > 50  # or else nothing was killed


@pytest.mark.fault
def test_a_worker_in_mid_epoch_ends_with_its_parent():
    """It looks at its pipe after the epoch only, which may take an hour."""

    def busy():
        with start_workers(2) as workers:
            workers[0].submit(sleeps, 3600.0)
            time.sleep(3600.0)

    pid, deadline = forked(busy), time.monotonic() + 60
    while len(group_of(pid)) < 3 and time.monotonic() < deadline:  # Python's tracker is one too
        time.sleep(0.05)
    time.sleep(3.0)
    os.kill(pid, signal.SIGKILL)
    assert ended(pid) == -signal.SIGKILL
    assert_nobody_left(pid)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("words", "longest", "runs"),
    [((), 2.0, 4), (("workers=2",), 10.0, 1)],
    ids=["one", "two workers"],
)
def test_soak(tmp_path, undisturbed, words, longest, runs):
    """200 kills at random moments, as many of them in one run as it lasts.

    A second worker takes seconds to start, and what is killed before that gets nowhere: on a busy
    machine all kills may meet one run.
    """
    rng, kills, number = random.Random(7), 0, 0
    settings = tiny_run.settings("checkpoint.share=1.0", *words)
    while kills < KILLS:
        path = tmp_path / str(number)
        while not run_killed_after(rng.uniform(0.0, longest), settings, path):
            kills += 1
        assert results_of(path) == undisturbed
        number += 1
    assert number >= runs
