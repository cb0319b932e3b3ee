"""A sweep from end to end without Ray: what runs, what is noted, what runs again."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys

import pytest
import yaml

import automix.agents.sweep
import automix.agents.sweep.plan as planning
from automix.agents.sweep import resume_sweep, run_sweep
from automix.agents.sweep.driver import Progress
from automix.agents.sweep.folder import SweepDirectory
from automix.agents.sweep.job import Outcome
from automix.agents.sweep.plan import plan_of
from automix.agents.sweep.screen import doing, headline
from automix.core.errors import ConfigError, DataError
from tests.agents.sweep.stand_ins import Inline, Inlines, accuracy, mended, toy

WORDS = ("agent.learning_rate=1e-3,2e-3", "seed=0,1,13")
"""Six trials, two of which fail."""


@pytest.fixture(autouse=True)
def nothing_is_trained(monkeypatch):
    monkeypatch.setattr(planning, "check", lambda settings, learns: "cpu")


@pytest.fixture
def inlines():
    return Inlines()


def ledger(path) -> list[tuple[str, str]]:
    return [(r["event"], r["trial"]) for r in SweepDirectory(path).ledger.records()]


def status(path) -> dict:
    return json.loads((path / "status.json").read_text())


def test_the_others_go_on_when_trials_fail(tmp_path, inlines):
    result = run_sweep(WORDS, tmp_path / "s", job=toy, executors=inlines)
    assert (result["trials"], result["finished"]) == (6, 4)
    words = [failure["words"] for failure in result["failed"]]
    assert words == ["agent.learning_rate=0.001 seed=13", "agent.learning_rate=0.002 seed=13"]
    for failure in result["failed"]:
        assert failure["error"] == "it broke"
        assert failure["log"] == str(tmp_path / "s" / "trials" / failure["trial"] / "log.txt")
    failed = [r for r in SweepDirectory(tmp_path / "s").ledger.records() if r["event"] == "failed"]
    assert [(r["trial"], r["error"]) for r in failed] == [
        (f["trial"], "it broke") for f in result["failed"]
    ]
    assert status(tmp_path / "s")["state"] == "failed"


def test_the_best_is_told_with_its_figures(tmp_path, inlines):
    result = run_sweep(WORDS, tmp_path / "s", job=toy, executors=inlines)
    best = result["settings"][0]
    trials = plan_of([*WORDS[:1], "seed=0,1"]).trials
    planted = [accuracy(t.settings) for t in trials if t.settings.agent.learning_rate == 2e-3]
    assert best["values"] == {"agent.learning_rate": "0.002"}
    assert best["val_accuracy"] == pytest.approx(sum(planted) / 2)
    assert best["n"] == 2
    (importance,) = result["importance"]
    assert importance["key"] == "agent.learning_rate"
    assert importance["share"] == pytest.approx(1.0)
    lines = (tmp_path / "s" / "summary.csv").read_text().splitlines()
    assert len(lines) == 7
    assert lines[0].startswith("trial,agent.learning_rate,seed,state,val_accuracy,test_accuracy")


@pytest.mark.parametrize("how", ["sweep", "resume"])
def test_again_runs_only_what_failed(tmp_path, inlines, how):
    path = tmp_path / "s"
    first = run_sweep(WORDS, path, job=toy, executors=inlines)
    if how == "sweep":
        result = run_sweep(WORDS, path, job=mended, executors=inlines)
    else:
        result = resume_sweep(path, job=mended, executors=inlines)
    assert inlines.ran == [failure["words"] for failure in first["failed"]]
    assert (result["finished"], result["failed"]) == (6, [])
    assert status(path)["state"] == "finished"
    for failure in first["failed"]:
        events = [event for event, trial in ledger(path) if trial == failure["trial"]]
        assert events == ["planned", "started", "failed", "started", "finished"]


def test_a_finished_sweep_starts_nothing(tmp_path, inlines):
    words = (WORDS[0], "seed=0,1")
    before = run_sweep(words, tmp_path / "s", job=toy, executors=inlines)
    again = run_sweep(words, tmp_path / "s", job=toy, executors=inlines)
    assert len(inlines.made) == 1
    assert again | {"wall_s": 0} == before | {"wall_s": 0}


def test_more_words_keep_the_trials_that_are_there(tmp_path, inlines):
    run_sweep([WORDS[0], "seed=0,1"], tmp_path / "s", job=toy, executors=inlines)
    result = run_sweep([WORDS[0], "seed=0,1,2"], tmp_path / "s", job=toy, executors=inlines)
    assert inlines.ran == ["agent.learning_rate=0.001 seed=2", "agent.learning_rate=0.002 seed=2"]
    assert result["finished"] == 6


def test_a_trial_that_finished_unseen_is_not_run_again(tmp_path, inlines):
    """The driver was killed between the end of the trial and its line in the ledger."""
    path = tmp_path / "s"
    run_sweep(["seed=0,1"], path, job=toy, executors=inlines)
    lines = (path / "ledger.jsonl").read_text().splitlines(keepends=True)
    (path / "ledger.jsonl").write_text("".join(lines[:-1]) + lines[-1][:20])
    result = run_sweep(["seed=0,1"], path, job=toy, executors=inlines)
    assert len(inlines.made) == 1
    assert result["finished"] == 2
    assert ledger(path)[-1] == ("finished", plan_of(["seed=0,1"]).trials[1].hash)


def test_a_trial_whose_directory_is_gone_runs_again(tmp_path, inlines):
    path = tmp_path / "s"
    run_sweep(["seed=0,1"], path, job=toy, executors=inlines)
    lost = plan_of(["seed=0,1"]).trials[0]
    shutil.rmtree(SweepDirectory(path).trial(lost.hash))
    run_sweep(["seed=0,1"], path, job=toy, executors=inlines)
    assert inlines.ran == ["seed=0"]


def test_no_more_trials_are_taken_than_asked_for(tmp_path):
    inlines = Inlines()
    run_sweep(["seed=range(0,9)"], tmp_path / "a", job=toy, executors=inlines)
    assert inlines.made[-1].most == Inline.room
    few = ["seed=range(0,9)", "sweep.max_concurrent=2"]
    run_sweep(few, tmp_path / "b", job=toy, executors=inlines)
    assert inlines.made[-1].most == 2


def test_ctrl_c_stops_the_trials_and_says_how_to_go_on(tmp_path, caplog):
    class Interrupted(Inline):
        def ended(self, timeout_s):
            if self.run:
                # The second trial has begun when Ctrl-C comes.
                trial = self.waiting[0]
                path = self.directory.attempts(trial.hash)
                path.write_text(json.dumps({"host": "x", "pid": 1}) + "\n")
                raise KeyboardInterrupt
            return super().ended(timeout_s)

    inlines, path = Inlines(Interrupted), tmp_path / "s"
    caplog.set_level(logging.INFO, "automix")
    with pytest.raises(KeyboardInterrupt):
        run_sweep(["seed=0,1,2"], path, job=toy, executors=inlines)
    assert inlines.made[-1].stopped
    one, two, three = (trial.hash for trial in plan_of(["seed=0,1,2"]).trials)
    assert ledger(path)[-2:] == [("started", two), ("interrupted", two)]
    assert status(path)["state"] == "interrupted"
    states = [line.split(",")[2] for line in (path / "summary.csv").read_text().splitlines()[1:]]
    assert states == ["finished", "interrupted", "planned"]
    assert f"next: python run.py resume {path}" in caplog.text
    result = resume_sweep(path, job=toy, executors=Inlines())
    assert result["finished"] == 3
    assert {one, two, three} == {trial for event, trial in ledger(path) if event == "finished"}


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
    run_sweep(["seed=0,1"], path, job=toy, executors=Inlines(Dies))
    first = plan_of(["seed=0,1"]).trials[0].hash
    events = [event for event, trial in ledger(path) if trial == first]
    assert events == ["planned", "started", "retried", "finished"]
    row = (path / "summary.csv").read_text().splitlines()[1].split(",")
    assert row[-2] == "1"


def test_nothing_starts_when_one_combination_is_bad(tmp_path, monkeypatch, inlines):
    def check(settings, learns):
        if settings.agent.gamma == 0.5:
            raise ConfigError("it cannot")

    monkeypatch.setattr(planning, "check", check)
    with pytest.raises(ConfigError, match=r"agent\.gamma=0\.5: it cannot"):
        run_sweep(["agent.gamma=0.9,0.5"], tmp_path / "s", job=toy, executors=inlines)
    assert inlines.made == []
    assert list(tmp_path.iterdir()) == []


def test_resume_needs_nothing_but_the_directory(tmp_path, monkeypatch, inlines):
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    for folder in (home, elsewhere):
        folder.mkdir()
    monkeypatch.chdir(home)
    run_sweep(["seed=0,13", "sweep.name=x"], job=toy, executors=inlines)
    monkeypatch.chdir(elsewhere)
    seen = []

    def where(settings, path):
        seen.append(os.getcwd())
        return mended(settings, path)

    resume_sweep(home / "sweeps" / "x", job=where, executors=inlines)
    assert seen == [str(home)]
    assert os.getcwd() == str(elsewhere)
    assert list(elsewhere.iterdir()) == []


def test_resume_refuses_words_that_mean_something_else_now(tmp_path, inlines):
    run_sweep(["seed=0,1"], tmp_path / "s", job=toy, executors=inlines)
    file = tmp_path / "s" / "sweep.yaml"
    described = yaml.safe_load(file.read_text())
    described["trials"][0] = "0" * 12
    file.write_text(yaml.safe_dump(described))
    with pytest.raises(DataError, match="other trials now"):
        resume_sweep(tmp_path / "s", job=toy, executors=inlines)


def test_a_trials_command_runs_it_alone(tmp_path, inlines):
    run_sweep(["seed=3,4"], tmp_path / "s", job=toy, executors=inlines)
    trial = plan_of(["seed=3,4"]).trials[0]
    command = (tmp_path / "s" / "trials" / trial.hash / "command.txt").read_text()
    assert command.startswith("python run.py train seed=3 ")


# What is shown -----------------------------------------------------------------------------------


def test_the_line_tells_what_is_left_from_what_has_finished():
    trials = plan_of(["seed=range(0,8)"]).trials
    names = [trial.hash for trial in trials]
    progress = Progress(trials, at_once=2)
    assert "left" not in headline(progress, "val_accuracy", 0.0)
    progress.settled[names[0]] = {"val_accuracy": 0.5}
    for name in names[1:3]:
        progress.outcomes[name] = Outcome(name, {"val_accuracy": 0.8}, "", 60.0)
    progress.outcomes[names[3]] = Outcome(names[3], None, "broke", 1.0)
    progress.running = {names[4]: 100.0, names[5]: 110.0}
    # Two wait (120 s), two run (45 and 55 s are left): 220 s of work for two at once.
    line = headline(progress, "val_accuracy", 115.0)
    assert line == (
        "3/8 done, 2 running, 1 failed, 1 min 50 s left; best so far all seeds (val_accuracy"
        " 0.7000, n = 3)"
    )


def test_a_running_trial_tells_what_it_is_at(tmp_path):
    (trial,) = plan_of(["agent.total_timesteps=3840"]).trials
    assert doing(tmp_path, trial) == "starting"
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text('{"update": 1, "val_accuracy": 0.5}\n{"update": 2, "val')
    assert doing(tmp_path, trial) == "learning 1/3, validation accuracy 0.500"
    metrics.write_text('{"update": 3, "val_accuracy": 0.5}\n')
    assert doing(tmp_path, trial) == "comparing"


def test_a_terminal_shows_every_running_trial(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(automix.agents.sweep.screen, "on_a_terminal", lambda: True)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with automix.agents.sweep.shown(SweepDirectory(tmp_path), "val_accuracy") as show:
        trials = plan_of(["agent.gamma=0.9,1.0"]).trials
        show(Progress(trials, running={trials[1].hash: 0.0}))
    err = capsys.readouterr().err
    assert "0/2 done, 1 running" in err
    assert "agent.gamma=1.0" in err
    assert "starting" in err


# The page ----------------------------------------------------------------------------------------


def test_the_page_escapes_whatever_it_is_told(tmp_path, inlines):
    hostile = "<script>alert(1)</script>"

    def fail(settings, path):
        if settings.seed == 1:
            raise ConfigError(f"{hostile} $x^2$ & so on")
        return toy(settings, path)

    path = tmp_path / "<b>s"
    run_sweep(["seed=0,1", f"policy='{hostile}','y'"], path, job=fail, executors=inlines)
    page = (path / "report" / "index.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<b>s" not in page
    for word in ("http://", "https://", "src=", "@import", "url("):
        assert word not in page.replace("http://www.w3.org", "").replace("url(#", "")


def test_the_page_shows_ranking_importance_failures_and_every_trial(tmp_path, inlines):
    result = run_sweep(WORDS, tmp_path / "s", job=toy, executors=inlines)
    page = (tmp_path / "s" / "report" / "index.html").read_text()
    assert "Best of 2 settings: agent.learning_rate=0.002, with 71.05 %" in page
    assert page.count("<svg") == 2
    for trial in plan_of(WORDS).trials:
        assert trial.hash in page
    for failure in result["failed"]:
        assert f'href="../trials/{failure["trial"]}/log.txt"' in page
    assert f"python run.py resume {tmp_path / 's'}" in page


def test_a_sweep_in_which_all_failed_has_a_page_too(tmp_path, inlines):
    result = run_sweep(["seed=13"], tmp_path / "s", job=toy, executors=inlines)
    assert result["settings"] == []
    assert "No trial has finished." in (tmp_path / "s" / "report" / "index.html").read_text()
