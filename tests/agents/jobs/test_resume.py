"""A run that ended early goes on where it was, and comes to what it would have come to."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

import automix.agents.jobs.run
import automix.agents.runs.result_cache
from automix.agents.jobs.run import resume, run_compare, run_train, train_or_resume
from automix.core.errors import ConfigError, DataError
from tests.agents import tiny_run
from tests.cases import named
from tests.faults.killing import results_of

SETTINGS = tiny_run.settings(
    "checkpoint.share=1.0",
    "compare.contestants=[agent,none,fixed,grid]",
    "compare.search_epochs=24",
    "compare.draws=2",
    "compare.seeds=2",
    "compare.validation_draws=2",
    "env.actions.methods=[none,mixup,rmix]",
    "env.actions.ratios=[0.25,0.5]",
)
"""Every phase: learning, searching, validating, comparing."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("undisturbed") / "run"
    run_train(SETTINGS, path)
    return results_of(path)


def interrupted(monkeypatch, where: Any, name: str, call: int) -> None:
    """Let a function end with Ctrl-C at its n-th call, before it does anything."""
    real, left = getattr(where, name), [call]

    def once(*args: Any, **kwargs: Any) -> Any:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        return real(*args, **kwargs)

    monkeypatch.setattr(where, name, once)


PHASES = [
    (automix.agents.jobs.run, "learn", 0),
    (automix.agents.jobs.run, "save_policy", 0),
    (automix.agents.jobs.run, "search", 0),
    (automix.agents.runs.result_cache, "append_line", 0),  # the first piece of the search
    (automix.agents.runs.result_cache, "append_line", 2),
    (automix.agents.jobs.run, "pick_fixed", 0),
    (automix.agents.jobs.run, "compare", 0),
    (automix.agents.runs.result_cache, "append_line", 1),
    (automix.agents.jobs.run, "save_schedule", 0),
    (automix.agents.jobs.run, "write_rule", 0),
    (automix.agents.jobs.run, "write_report", 0),
]
"""Where one and the same run is interrupted, one after the other."""


def test_it_goes_on_from_any_phase(tmp_path, monkeypatch, undisturbed):
    path = tmp_path / "run"
    for number, (where, name, call) in enumerate(PHASES):
        with monkeypatch.context() as patch, named(name, call):
            interrupted(patch, where, name, call)
            with pytest.raises(KeyboardInterrupt):
                resume(path) if number else run_train(SETTINGS, path)
        assert status_of(path)["state"] == "interrupted"
    resume(path)
    assert results_of(path) == undisturbed
    assert status_of(path)["state"] == "finished"
    assert list(path.rglob("*.unfinished")) == []


def status_of(path: Path) -> dict[str, Any]:
    return dict(json.loads((path / "status.json").read_text(encoding="utf-8")))


def test_what_is_on_record_is_not_done_again(tmp_path, monkeypatch, undisturbed):
    with monkeypatch.context() as patch:
        interrupted(patch, automix.agents.jobs.run, "compare", 0)
        with pytest.raises(KeyboardInterrupt):
            run_train(SETTINGS, tmp_path / "run")

    def again(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(automix.agents.jobs.run, "learn", again)
    monkeypatch.setattr("automix.agents.contest.controls.evaluator.play_block", again)
    resume(tmp_path / "run")
    assert results_of(tmp_path / "run") == undisturbed


def test_a_signal_ends_the_epoch_and_leaves_a_checkpoint(tmp_path, monkeypatch, undisturbed):
    real = automix.agents.jobs.run.learn

    def told(settings: Any, workers: Any, device: Any, directory: Any, stop: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return real(settings, workers, device, directory, stop)

    with monkeypatch.context() as patch:
        patch.setattr(automix.agents.jobs.run, "learn", told)
        with pytest.raises(SystemExit) as ended:
            run_train(SETTINGS, tmp_path / "run")
    assert ended.value.code == 143
    assert [path.name for path in (tmp_path / "run" / "checkpoints").glob("step_*")]
    resume(tmp_path / "run")
    assert results_of(tmp_path / "run") == undisturbed


def test_a_comparison_goes_on_from_its_directory_alone(tmp_path, monkeypatch):
    """Neither the export that it was given nor the folder that it began in is there any more."""
    policy = tmp_path / "policy"
    shutil.copytree(tiny_run_export(tmp_path), policy)
    settings = tiny_run.settings(f"policy={policy}", "compare.contestants=[agent,none]")
    run_compare(settings, tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupted(patch, automix.agents.runs.result_cache, "append_line", 2)
        with pytest.raises(KeyboardInterrupt):
            run_compare(settings, tmp_path / "run")
    shutil.rmtree(policy)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    resume(tmp_path / "run")
    assert results_of(tmp_path / "run") == results_of(tmp_path / "whole")


def tiny_run_export(tmp_path: Path) -> Path:
    run_train(tiny_run.settings(), tmp_path / "learned")
    return tmp_path / "learned" / "export"


def test_images_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    located = automix.agents.jobs.run.located(
        tiny_run.settings("task.dataset=npz", "task.root=x.npz")
    )
    assert located.task.root == str(tmp_path / "x.npz")


def test_what_learning_took_is_read_as_numbers(tmp_path):
    path = tmp_path / "run"
    run_train(tiny_run.settings("compare.contestants=[agent,none]", "compare.seeds=1"), path)
    status = json.loads((path / "status.json").read_text())
    (path / "status.json").write_text(json.dumps(status | {"state": "interrupted"}))
    whole = json.loads((path / "checkpoints" / "learned.json").read_text())
    for damaged in (
        *([], {}, "x", 1, None, [["updates", 2]], whole | {"updates": "2"}),
        *(whole | {name: math.nan} for name in whole),
        *(whole | {"passes": value} for value in (-1, math.inf, 10**400, None)),
    ):
        (path / "checkpoints" / "learned.json").write_text(json.dumps(damaged))
        with pytest.raises(DataError, match=r"learned\.json: .* is .*, wanted a number") as error:
            resume(path)
        assert "--overwrite" in error.value.hint


@pytest.mark.usefixtures("undisturbed")
def test_a_finished_run_is_left_as_it_is(tmp_path):
    path = tmp_path / "run"
    first = train_or_resume(tiny_run.settings(), path)
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*")}
    assert json.dumps(resume(path)) == json.dumps(first)
    assert json.dumps(train_or_resume(tiny_run.settings(), path)) == json.dumps(first)
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*")} == before


def test_a_folder_with_a_run_of_other_settings_is_refused(tmp_path):
    train_or_resume(tiny_run.settings(), tmp_path / "run")
    train_or_resume(tiny_run.settings("workers=2", "checkpoint.share=1"), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"run holds a run with other settings: seed"):
        train_or_resume(tiny_run.settings("seed=1"), tmp_path / "run")
