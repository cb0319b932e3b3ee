"""A run's directory: made whole, refused when taken, never somebody else's."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import namedtuple
from dataclasses import replace
from functools import reduce
from operator import getitem
from pathlib import Path

import numpy as np
import pytest
import yaml

import automix
from automix.agents.config.agent import names_of
from automix.agents.config.compose import keys
from automix.agents.config.schema import build
from automix.agents.config.settings import AgentSettings, RunSettings
from automix.agents.runs import rundir
from automix.agents.runs.rundir import RunDirectory, command_line, default_path, describe_machine
from automix.core import errors, files
from automix.core.errors import ConfigError, DataError, ResourceError
from automix.core.settings import affects
from automix.data.tasks import FamilySettings
from automix.policy.policy import MixPolicy, load_policy
from tests import tiny

SETTINGS = RunSettings(seed=3)
POLICY = MixPolicy(
    tiny.ONE_MIX,
    [(np.ones((2, 1), np.float32), np.zeros(2, np.float32))],
    {"from": "here"},
)
OWN = {f"agent.{name}" for name in names_of(type(SETTINGS.agent))}
Usage = namedtuple("Usage", "total used free")


def everything_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_new_directory_says_what_is_being_run(tmp_path):
    directory = RunDirectory.create(tmp_path / "a" / "b", SETTINGS, overwrite=False)
    assert everything_below(directory.path) == [
        *("checkpoints", "checkpoints/begun.json", "command.txt"),
        *("config.yaml", "env.json", "status.json"),
    ]
    written = yaml.safe_load((directory.path / "config.yaml").read_text(encoding="utf-8"))
    assert build(RunSettings, written) == SETTINGS
    status = json.loads((directory.path / "status.json").read_text(encoding="utf-8"))
    assert status["state"] == "running"
    assert status["pid"] == os.getpid()
    assert status["job"] == "train"


def test_an_empty_folder_may_be_used(tmp_path):
    assert RunDirectory.create(tmp_path, SETTINGS, overwrite=False).path == tmp_path


def test_a_folder_or_a_file_that_is_no_run_is_never_replaced(tmp_path):
    for number, holds in enumerate(("photo.jpg", "config.yaml", "status.json", "sub/a.yaml", ".")):
        foreign = tmp_path / f"photos{number}"
        (foreign / holds).parent.mkdir(parents=True, exist_ok=True)
        (foreign / holds).write_text("mine", encoding="utf-8")
        for overwrite in (False, True):
            with pytest.raises(ConfigError, match=foreign.name):
                RunDirectory.create(foreign, SETTINGS, overwrite=overwrite)
        assert (foreign / holds).read_text(encoding="utf-8") == "mine", holds


def test_an_old_run_that_cannot_be_removed_is_a_matter_of_the_machine(tmp_path, monkeypatch):
    RunDirectory.create(tmp_path / "run", SETTINGS, overwrite=False)

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(ResourceError, match="run cannot be replaced: Permission denied"):
        RunDirectory.create(tmp_path / "run", SETTINGS, overwrite=True)


def test_a_full_disk_costs_no_old_run(tmp_path, monkeypatch):
    directory = RunDirectory.create(tmp_path / "run", SETTINGS, overwrite=False)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(100, 99, 0))
    with pytest.raises(ResourceError, match="0 MB are free"):
        RunDirectory.create(directory.path, SETTINGS, overwrite=True)
    assert (directory.path / "config.yaml").is_file()


def test_a_directory_that_was_being_made_when_its_process_was_killed_is_made_anew(tmp_path):
    first = (
        *("checkpoints/begun.json", "config.yaml", "command.txt", "env.json"),
        *("policy/policy.safetensors", "policy/policy.json"),
    )
    for made in range(len(first) + 1):
        path = RunDirectory.create(
            tmp_path / f"run{made}", SETTINGS, overwrite=False, policy=POLICY
        ).path
        for name in ("status.json", *first[made:]):
            (path / name).unlink()
        if made <= 4:
            (path / "policy").rmdir()
        (path / ".config.yaml.x1").touch()
        RunDirectory.create(path, RunSettings(seed=4), overwrite=False)
        assert RunDirectory.open(path)[1] == RunSettings(seed=4), made
        assert not (path / ".config.yaml.x1").exists()


def test_the_policy_is_there_before_the_folder_is_a_run(tmp_path, monkeypatch):
    """So that whatever is resumed has all that it needs."""

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(RunDirectory, "status", killed)
    with pytest.raises(KeyboardInterrupt):
        RunDirectory.create(tmp_path / "run", SETTINGS, False, "compare", POLICY)
    assert load_policy(tmp_path / "run" / "policy").about == {"from": "here"}


def test_a_name_that_is_not_utf8_is_refused_before_anything_is_made(tmp_path):
    for name in (b"\xff", b"a\xe4b", b"ok/\xc3\x28"):
        with pytest.raises(ConfigError, match="is not UTF-8"):
            RunDirectory.create(tmp_path / os.fsdecode(name), SETTINGS, False)
    assert everything_below(tmp_path) == []
    RunDirectory.create(tmp_path / "läuft (1) 日本", SETTINGS, False)


def test_a_time_that_cannot_have_been_is_none(tmp_path):
    directory = RunDirectory.create(tmp_path / "run", SETTINGS, False)
    status = json.loads((directory.path / "status.json").read_text(encoding="utf-8"))
    for spent in ("NaN", "Infinity", "-5.0", "1" * 400, '"long"', "[1]", "null"):
        text = json.dumps(status | {"spent_s": 0}).replace('"spent_s": 0', f'"spent_s": {spent}')
        (directory.path / "status.json").write_text(text, encoding="utf-8")
        again, _, _ = RunDirectory.open(directory.path)
        assert 0 <= again.spent_s < 1000, spent
        again.status("interrupted")


def test_a_pipe_or_a_folder_in_the_place_of_a_file_is_named(tmp_path):
    for number, (name, make) in enumerate(
        (
            ("checkpoints/lock", os.mkfifo),
            ("log.txt", os.mkfifo),
            ("metrics.jsonl", os.mkdir),
            ("checkpoints/finished.jsonl", os.mkdir),
            ("checkpoints/learned.json", os.mkfifo),
        )
    ):
        directory = RunDirectory.create(tmp_path / f"run{number}", SETTINGS, False)
        make(directory.path / name)
        with pytest.raises(DataError, match=f"{name} is no plain file"), directory.locked():
            pass


def test_a_run_is_read_from_its_directory(tmp_path):
    RunDirectory.create(tmp_path / "run", SETTINGS, False, job="compare").status("interrupted")
    directory, settings, state = RunDirectory.open(tmp_path / "run")
    assert (settings, state, directory.job) == (SETTINGS, "interrupted", "compare")


def test_the_time_of_a_run_is_that_of_all_its_parts(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(rundir.time, "monotonic", lambda: now[0])
    directory = RunDirectory.create(tmp_path / "run", SETTINGS, False)
    now[0] += 7.0
    directory.status("interrupted")
    now[0] += 1000.0
    again, _, _ = RunDirectory.open(tmp_path / "run")
    now[0] += 5.0
    assert again.spent_s == 12.0


def changed(path: Path, before: str, after: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")


SPEED = {
    *("backend", "checkpoint.keep", "checkpoint.share", "max_restarts", "name", "ray.address"),
    *("ray.cpus_per_worker", "ray.gpus_per_worker", "step_timeout_s", "task.min_per_class"),
    "workers",
}
SHAPE = {
    *("agent.name", "agent.groups", "agent.group_size", "agent.stacked_groups", "agent.normalise"),
    *("agent.net_arch", "trainer.model", "trainer.epochs", "trainer.batch_size", "trainer.opt"),
    "trainer.model_ema",
}


def test_what_results_depend_on_may_not_change_and_how_the_work_is_spread_may(
    tmp_path, monkeypatch
):
    """Every field of every settings class: those of speed, then all others, each of them named."""
    monkeypatch.setattr(errors, "LONGEST", 10**6)
    path = RunDirectory.create(tmp_path / "run", SETTINGS, False).path
    whole = (path / "checkpoints/begun.json").read_text(encoding="utf-8")
    names = [name for name, default in keys().items() if default is not None]
    names = [name for name in names if not name.startswith("agent.") or name in OWN]
    for changed_ones, refused in ((SPEED, set()), (set(names) - SPEED, set(names) - SPEED)):
        begun = json.loads(whole)
        for name in changed_ones:
            *sections, last = name.split(".")
            reduce(getitem, sections, begun)[last] = ["another"]
        (path / "checkpoints/begun.json").write_text(json.dumps(begun), encoding="utf-8")
        if not refused:
            assert RunDirectory.open(path)[1] == SETTINGS
            continue
        with pytest.raises(ConfigError, match="since the run began") as error:
            RunDirectory.open(path)
        told = error.value.message.partition("since the run began: ")[2].split("; ")
        assert {one.partition(" was ")[0] for one in told} == refused
    assert set(names) >= SPEED | SHAPE
    assert {name for name in names if affects(SETTINGS, name) == "shape"} == SHAPE


def test_a_config_that_was_changed_says_from_what_to_what(tmp_path):
    path = RunDirectory.create(tmp_path / "run", SETTINGS, False).path
    changed(path / "config.yaml", "workers: 0", "workers: 5")
    changed(path / "config.yaml", "backend: local", "backend: ray")
    assert RunDirectory.open(path)[1] == replace(SETTINGS, workers=5, backend="ray")
    changed(path / "config.yaml", "learning_rate: 0.003\n", "learning_rate: 0.01\n")
    with pytest.raises(ConfigError, match=r"agent\.learning_rate was 0\.003, is 0\.01") as error:
        RunDirectory.open(path)
    assert error.value.exit_code == 2


def test_a_run_that_wrote_the_settings_of_all_agents_goes_on_unless_one_is_changed(tmp_path):
    path = RunDirectory.create(tmp_path / "run", SETTINGS, False).path
    begun = json.loads((path / "checkpoints/begun.json").read_text(encoding="utf-8"))
    begun["agent"]["tau"] = 0.02
    (path / "checkpoints/begun.json").write_text(json.dumps(begun), encoding="utf-8")
    changed(path / "config.yaml", "agent:\n", "agent:\n  tau: 0.02\n")
    assert RunDirectory.open(path)[1] == SETTINGS
    changed(path / "config.yaml", "tau: 0.02", "tau: 0.5")
    with pytest.raises(ConfigError, match=r"agent\.tau was 0\.02, is 0\.5"):
        RunDirectory.open(path)


def test_a_damaged_hostile_or_missing_file_is_named(tmp_path):
    path = RunDirectory.create(tmp_path / "run", SETTINGS, False).path
    for file, before, after, error, told in (
        ("config.yaml", "seed: 3", "seed: many", ConfigError, "config.yaml: seed: "),
        ("config.yaml", "seed: 3", "sead: 3", ConfigError, "sead"),
        ("config.yaml", "seed: 3", "seed: -3", ConfigError, "seed is -3"),
        ("config.yaml", "name: ''", "name: ${oc.env:HOME}", ConfigError, "interpolation"),
        ("config.yaml", "name: ''", "name: ../../x", ConfigError, "wanted one folder name"),
        ("config.yaml", "seed: 3", "seed: !!python/name:os.system", DataError, "not plain YAML"),
        ("config.yaml", "agent:", "- agent:", DataError, "not plain YAML"),
        ("status.json", '"job": "train"', '"job": "os.system"', DataError, "job and state"),
        ("status.json", "{", "[", DataError, "is not JSON"),
        ("checkpoints/begun.json", "{", "[", DataError, "is not JSON"),
    ):
        text = (path / file).read_text(encoding="utf-8")
        (path / file).write_text(text.replace(before, after, 1), encoding="utf-8")
        with pytest.raises(error, match=re.escape(told)):
            RunDirectory.open(path)
        (path / file).unlink()
        with pytest.raises(DataError, match=Path(file).name):
            RunDirectory.open(path)
        (path / file).write_text(text, encoding="utf-8")


def test_two_processes_never_work_on_one_run(tmp_path):
    directory = RunDirectory.create(tmp_path / "run", SETTINGS, False)
    other, _, _ = RunDirectory.open(tmp_path / "run")
    working = pytest.raises(ConfigError, match=rf"process {os.getpid()} is working on .*run")
    with directory.locked():
        with working, other.locked():
            pass
        with working:
            RunDirectory.create(tmp_path / "run", SETTINGS, overwrite=True)
    with other.locked():
        pass


def test_records_are_lines_of_json_with_finite_numbers(tmp_path):
    directory = RunDirectory(tmp_path)
    directory.append("a.jsonl", {"x": 1})
    directory.append("a.jsonl", {"x": 2})
    directory.write_lines("b.jsonl", [{"x": 1}, {"x": 2}])
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        directory.append("a.jsonl", {"x": float("nan")})


def test_runs_are_named_by_task_agent_seed_and_time():
    cifar, other = FamilySettings(dataset="torch/cifar10"), AgentSettings(name="other")
    for settings, command, name in (
        (RunSettings(seed=3), "train", r"digits_ppo_s3_\d{8}-\d{6}"),
        (RunSettings(), "compare", r"digits_compare_s0_\d{8}-\d{6}"),
        (RunSettings(name="mine"), "train", "mine"),
        (RunSettings(task=cifar), "train", "torch-cifar10_ppo_s0"),
        (RunSettings(agent=other), "train", "digits_other_s0"),
    ):
        path = default_path(settings, command)
        assert path.parent == Path("runs")
        assert re.match(name, path.name)


def test_the_command_can_be_run_again(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/some/where/run.py", "train", "task.root=my images"])
    assert command_line() == "python run.py train 'task.root=my images'"
    monkeypatch.setattr("sys.argv", ["/usr/bin/automix", "list"])
    assert command_line() == "automix list"


def test_the_machine_is_described_by_versions_and_cores():
    machine = describe_machine()
    assert machine["automix"] == automix.__version__
    assert machine["cores"] >= 1
    assert machine["cpu"]
    for package in ("torch", "timm", "gymnasium", "stable-baselines3", "numpy"):
        assert machine["versions"][package][0].isdigit()
    assert json.loads(json.dumps(machine)) == machine


def test_what_the_machine_lacks_is_said_a_package_and_a_commit(monkeypatch, tmp_path):
    (tmp_path / "agents").mkdir()
    monkeypatch.setattr(rundir, "__file__", str(tmp_path / "agents" / "rundir.py"))
    monkeypatch.setattr(rundir, "PACKAGES", ("torch", "no-such-package-anywhere"))
    machine = describe_machine()
    assert machine["git"] is None
    assert machine["versions"]["no-such-package-anywhere"] == "missing"


def test_tuples_become_lists_all_the_way_down():
    assert rundir.plain({"a": (1, (2, [3]))}) == {"a": [1, [2, [3]]]}
    assert files.short((1, 2)) == "tuple"
