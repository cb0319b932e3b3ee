"""A grid from end to end without Ray: what runs, what is noted, what runs again, the page."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal

import pytest
import yaml

import automix.agents.sweep.planning.plan as planning
from automix.agents.sweep import resume_sweep, run_sweep
from automix.agents.sweep.folder import SweepDirectory
from automix.agents.sweep.planning.plan import plan_of
from automix.core.errors import ConfigError, DataError
from tests.agents.sweep.stand_ins import (
    Inline,
    Inlines,
    accuracy,
    events,
    events_by_trial,
    mended,
    state,
    toy,
)
from tests.cli.conftest import ctrl_c_is_heard  # noqa: F401 (a fixture)

WORDS = ("agent.learning_rate=1e-3,2e-3", "seed=0,1,13")
"""Six trials, two of which fail."""


@pytest.fixture(autouse=True)
def nothing_is_trained(monkeypatch):
    monkeypatch.setattr(planning, "check", lambda settings, learns: "cpu")


@pytest.fixture
def inlines():
    return Inlines()


def test_the_others_go_on_when_trials_fail_and_again_runs_only_those(tmp_path):
    for again in (run_sweep, resume_sweep):
        inlines, path = Inlines(), tmp_path / again.__name__
        first = run_sweep(WORDS, path, runner=inlines.runs())
        assert (first["trials"], first["finished"]) == (6, 4)
        words = [failure["words"] for failure in first["failed"]]
        assert words == ["agent.learning_rate=0.001 seed=13", "agent.learning_rate=0.002 seed=13"]
        for failure in first["failed"]:
            assert failure["error"] == "it broke"
            assert failure["log"] == str(path / "trials" / failure["trial"] / "log.txt")
        records = SweepDirectory(path).ledger.records()
        failed = [(one["trial"], one["error"]) for one in records if one["event"] == "failed"]
        assert failed == [(failure["trial"], "it broke") for failure in first["failed"]]
        assert state(path) == "failed"
        args = (WORDS, path) if again is run_sweep else (path,)
        result = again(*args, runner=inlines.runs(mended))
        assert inlines.ran == words
        assert (result["finished"], result["failed"]) == (6, [])
        assert state(path) == "finished"
        for failure in first["failed"]:
            happened = events_by_trial(path)[failure["trial"]]
            assert happened == ["planned", "started", "failed", "started", "finished"]


def test_the_best_is_told_and_shown_with_its_figures(tmp_path, inlines):
    path = tmp_path / "s"
    result = run_sweep(WORDS, path, runner=inlines.runs())
    best = result["settings"][0]
    trials = plan_of([*WORDS[:1], "seed=0,1"]).trials
    planted = [accuracy(t.settings) for t in trials if t.settings.agent.learning_rate == 2e-3]
    assert best["values"] == {"agent.learning_rate": "0.002"}
    assert best["val_accuracy"] == pytest.approx(sum(planted) / 2)
    assert best["n"] == 2
    (importance,) = result["importance"]
    assert importance["key"] == "agent.learning_rate"
    assert importance["share"] == pytest.approx(1.0)
    lines = (path / "summary.csv").read_text().splitlines()
    assert len(lines) == 7
    assert lines[0] == (
        "trial,agent.learning_rate,seed,state,val_accuracy,test_accuracy,test_ece,epochs_spent,"
        "wall_s,retries,error"
    )
    page = (path / "report" / "index.html").read_text()
    assert "Best of 2 settings: agent.learning_rate=0.002, with 71.05 %" in page
    assert page.count("<svg") == 2
    for trial in plan_of(WORDS).trials:
        assert trial.hash in page
    for failure in result["failed"]:
        assert f'href="../trials/{failure["trial"]}/log.txt"' in page
    assert f"python run.py resume {path}" in page
    # A trial's command runs it alone.
    command = (path / "trials" / trials[0].hash / "command.txt").read_text()
    assert command.startswith("python run.py train agent.learning_rate=0.001 seed=0 ")
    result = run_sweep(["seed=13"], tmp_path / "failed", runner=inlines.runs())
    assert result["settings"] == []
    page = tmp_path / "failed" / "report" / "index.html"
    assert "No trial has finished." in page.read_text()


def test_a_finished_sweep_starts_nothing_and_more_values_keep_the_trials_that_are_there(
    tmp_path, inlines
):
    before, again = (
        run_sweep([WORDS[0], "seed=0,1"], tmp_path / "s", runner=inlines.runs()) for _ in range(2)
    )
    assert len(inlines.made) == 1
    assert again | {"wall_s": 0} == before | {"wall_s": 0}
    ledger = (tmp_path / "s" / "ledger.jsonl").read_bytes()
    again = resume_sweep(tmp_path / "s", runner=inlines.runs())
    assert again | {"wall_s": 0} == before | {"wall_s": 0}
    assert len(inlines.made) == 1
    assert (tmp_path / "s" / "ledger.jsonl").read_bytes() == ledger
    result = run_sweep([WORDS[0], "seed=0,1,2"], tmp_path / "s", runner=inlines.runs())
    assert inlines.ran == ["agent.learning_rate=0.001 seed=2", "agent.learning_rate=0.002 seed=2"]
    assert result["finished"] == 6


def test_a_trial_has_finished_if_its_directory_says_so(tmp_path, inlines):
    path, words = tmp_path / "s", ["seed=0,1"]
    one, two = (trial.hash for trial in plan_of(words).trials)
    run_sweep(words, path, runner=inlines.runs())
    # As if the driver had been killed between the end of a trial and its line in the ledger.
    lines = (path / "ledger.jsonl").read_text().splitlines(keepends=True)
    (path / "ledger.jsonl").write_text("".join(lines[:-1]) + lines[-1][:20])
    result = run_sweep(words, path, runner=inlines.runs())
    assert len(inlines.made) == 1
    assert result["finished"] == 2
    assert events(path)[-1] == ("finished", two)
    shutil.rmtree(SweepDirectory(path).trial(one))
    run_sweep(words, path, runner=inlines.runs())
    assert inlines.ran == ["seed=0"]


def test_no_more_trials_are_taken_than_asked_for(tmp_path, inlines):
    run_sweep(["seed=range(0,6)"], tmp_path / "a", runner=inlines.runs())
    assert inlines.made[-1].most == Inline.room
    few = ["seed=range(0,4)", "sweep.max_concurrent=2"]
    run_sweep(few, tmp_path / "b", runner=inlines.runs())
    assert inlines.made[-1].most == 2


@pytest.mark.usefixtures("ctrl_c_is_heard")
def test_ctrl_c_and_sigterm_stop_the_trials_and_say_how_to_go_on(tmp_path, caplog):
    caplog.set_level(logging.INFO, "automix")
    before = signal.getsignal(signal.SIGTERM)
    for number, raised in ((signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)):

        class Interrupted(Inline):
            def ended(self, timeout_s, number=number):
                if self.run:
                    # The second trial has begun when the signal comes.
                    path = self.directory.attempts(self.waiting[0].hash)
                    path.write_text(json.dumps({"host": "x", "pid": 1}) + "\n")
                    os.kill(os.getpid(), number)
                return super().ended(timeout_s)

        inlines, path = Inlines(Interrupted), tmp_path / number.name
        with pytest.raises(raised) as caught:
            run_sweep(["seed=0,1,2"], path, runner=inlines.runs())
        assert getattr(caught.value, "code", 143) == 143
        assert inlines.made[-1].stopped
        one, two, three = (trial.hash for trial in plan_of(["seed=0,1,2"]).trials)
        assert events(path)[-2:] == [("started", two), ("interrupted", two)]
        assert state(path) == "interrupted"
        rows = (path / "summary.csv").read_text().splitlines()[1:]
        assert [row.split(",")[2] for row in rows] == ["finished", "interrupted", "planned"]
        assert f"next: python run.py resume {path}" in caplog.text
        result = resume_sweep(path, runner=Inlines().runs())
        assert result["finished"] == 3
        assert {one, two, three} == {name for event, name in events(path) if event == "finished"}
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_process_that_died_is_counted(tmp_path):
    class Dies(Inline):
        def ended(self, timeout_s):
            trial = self.waiting[0]
            if not self.run and not self.directory.attempts(trial.hash).exists():
                path = self.directory.attempts(trial.hash)
                path.parent.mkdir(exist_ok=True)
                path.write_text(json.dumps({"host": "x", "pid": 1}) + "\n")
                return []
            return super().ended(timeout_s)

    path = tmp_path / "s"
    run_sweep(["seed=0,1"], path, runner=Inlines(Dies).runs())
    first = plan_of(["seed=0,1"]).trials[0].hash
    assert events_by_trial(path)[first] == ["planned", "started", "retried", "finished"]
    row = (path / "summary.csv").read_text().splitlines()[1].split(",")
    assert row[-2] == "1"


def test_nothing_starts_when_one_combination_is_bad(tmp_path, monkeypatch, inlines):
    def check(settings, learns):
        if settings.agent.gamma == 0.5:
            raise ConfigError("it cannot")

    monkeypatch.setattr(planning, "check", check)
    with pytest.raises(ConfigError, match=r"agent\.gamma=0\.5: it cannot"):
        run_sweep(["agent.gamma=0.9,0.5"], tmp_path / "s", runner=inlines.runs())
    assert inlines.made == []
    assert list(tmp_path.iterdir()) == []


def test_resume_needs_nothing_but_the_directory(tmp_path, monkeypatch, inlines):
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    for folder in (home, elsewhere):
        folder.mkdir()
    monkeypatch.chdir(home)
    run_sweep(["seed=0,13", "sweep.name=x"], runner=inlines.runs())
    monkeypatch.chdir(elsewhere)
    seen = []

    def where(settings, path):
        seen.append(os.getcwd())
        return mended(settings, path)

    resume_sweep(home / "sweeps" / "x", runner=inlines.runs(where))
    assert seen == [str(home)]
    assert os.getcwd() == str(elsewhere)
    assert list(elsewhere.iterdir()) == []


def test_resume_refuses_overrides_that_mean_something_else_now(tmp_path, inlines):
    run_sweep(["seed=0,1"], tmp_path / "s", runner=inlines.runs())
    file = tmp_path / "s" / "sweep.yaml"
    described = yaml.safe_load(file.read_text())
    described["trials"][0] = "0" * 12
    file.write_text(yaml.safe_dump(described))
    with pytest.raises(DataError, match="other trials now"):
        resume_sweep(tmp_path / "s", runner=inlines.runs())


def test_the_page_escapes_whatever_is_in_it(tmp_path, inlines):
    hostile = "<script>alert(1)</script>"

    def fail(settings, path):
        if settings.seed == 1:
            raise ConfigError(f"{hostile} $x^2$ & so on")
        return toy(settings, path)

    path = tmp_path / "<b>s"
    run_sweep(["seed=0,1", f"policy='{hostile}','y'"], path, runner=inlines.runs(fail))
    page = (path / "report" / "index.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<b>s" not in page
    for word in ("http://", "https://", "src=", "@import", "url("):
        assert word not in page.replace("http://www.w3.org", "").replace("url(#", "")
