"""What a sweep shows while it runs."""

from __future__ import annotations

import sys

import automix.agents.sweep.watch
from automix.agents.sweep.folder import SweepDirectory
from automix.agents.sweep.planning.plan import plan_of
from automix.agents.sweep.watch import Progress, SearchWatch, Watch, doing, headline, watching
from tests.agents.sweep.stand_ins import ASHA


def test_the_line_has_what_is_left_from_what_has_finished():
    trials = plan_of(["seed=range(0,8)"]).trials
    names = [trial.hash for trial in trials]
    progress = Progress(trials, at_once=2)
    assert "left" not in headline(progress, 0.0)
    progress.over = set(names[:4])
    progress.scores = {names[0]: 0.5, names[1]: 0.8, names[2]: 0.8}
    progress.took = [60.0, 60.0]
    progress.failed = {names[3]: "broke"}
    progress.running = {names[4]: 100.0, names[5]: 110.0}
    # Two wait (120 s), two run (45 and 55 s are left): 220 s of work for two at once.
    assert headline(progress, 115.0) == (
        "3/8 done, 2 running, 1 failed, 1 min 50 s left; best so far all seeds (val_accuracy"
        " 0.7000, n = 3)"
    )


def test_a_search_counts_updates(tmp_path):
    plan = plan_of(ASHA)
    watch = SearchWatch(plan, SweepDirectory(tmp_path))
    name = plan.trials[1].hash
    watch.started(name)
    report = {"trial": name, "updates": 2, "val_accuracy": 0.5, "done": False}
    watch.heard({**report, "copied": "", "failed": "", "inherited": False})
    assert headline(watch.progress, 0.0) == (
        "0/3 done, 1 running, 2 of at most 18 updates; best so far agent.learning_rate=0.01"
        " (val_accuracy 0.5000, n = 1)"
    )


def test_a_running_trial_shows_what_it_is_at(tmp_path):
    (trial,) = plan_of(["agent.total_timesteps=3840"]).trials
    assert doing(tmp_path, trial) == "starting"
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text('{"update": 1, "val_accuracy": 0.5}\n{"update": 2, "val')
    assert doing(tmp_path, trial) == "learning 1/3, validation accuracy 0.500"
    metrics.write_text('{"update": 3, "val_accuracy": 0.5}\n')
    assert doing(tmp_path, trial) == "comparing"
    # A trial of a search has a folder for each slice.
    for update in (1, 2):
        (tmp_path / f"{update:06d}").mkdir()
        record = f'{{"update": {update}, "val_accuracy": 0.25}}\n'
        (tmp_path / f"{update:06d}" / "metrics.jsonl").write_text(record)
    assert doing(tmp_path, trial) == "learning 2/3, validation accuracy 0.250"


def test_a_terminal_shows_every_running_trial(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(automix.agents.sweep.watch, "on_a_terminal", lambda: True)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    plan = plan_of(["agent.gamma=0.9,1.0"])
    watch = Watch(plan, SweepDirectory(tmp_path))
    watch.note("started", plan.trials[1].hash)
    with watching(watch):
        pass
    err = capsys.readouterr().err
    assert "0/2 done, 1 running" in err
    assert "agent.gamma=1.0" in err
    assert "starting" in err
