"""Checkpoints: whole or not there, few, due by cost, and nothing in them is trusted."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import automix.agents.runs.checkpoints
from automix.agents.config.settings import CheckpointSettings
from automix.agents.runs.checkpoints import Checkpoints, SaveThrottle, refuse_other_settings
from automix.core.errors import ConfigError, ResourceError
from tests.cases import each

RUN = {"agent": {"name": "ppo", "learning_rate": 0.003}, "seed": 0}


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def checkpoints(folder: Path, clock: Callable[[], float] | None = None, **words: Any):
    settings = CheckpointSettings(**({"share": 0.1} | words))
    return Checkpoints(folder, settings, RUN, clock or Clock())


def states(number: int = 0) -> Callable[[], dict[str, Any]]:
    return lambda: {"agent": {"number": number}, "trainings": {"x": np.arange(number)}}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def seal(path: Path) -> None:
    """Make a manifest tell what its files are now, as who forges one would."""
    manifest = json.loads((path / "manifest.json").read_text())
    for name, known in manifest["files"].items():
        content = (path / name).read_bytes()
        known.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    (path / "manifest.json").write_text(json.dumps(manifest))


# Written ----------------------------------------------------------------------------------------


def test_what_was_written_comes_back(tmp_path):
    path = checkpoints(tmp_path / "c").write(120, states(3), score=0.5)
    assert path.name == "step_000000120"
    assert names(path) == ["agent.safetensors", "manifest.json", "trainings.safetensors"]
    assert names(tmp_path / "c") == ["LATEST", "step_000000120"]
    assert (tmp_path / "c" / "LATEST").read_text() == "step_000000120\n"
    found = checkpoints(tmp_path / "c").newest()
    assert (found.path, found.step, found.settings) == (path, 120, RUN)
    assert found.states["agent"] == {"number": 3}
    assert found.states["trainings"]["x"].tolist() == [0, 1, 2]


def test_where_there_is_none_none_is_found(tmp_path):
    assert checkpoints(tmp_path / "c").newest() is None
    assert not (tmp_path / "c").exists()


def test_the_newest_is_found_without_the_file_that_names_it(tmp_path):
    kept = checkpoints(tmp_path)
    for step in (8, 16, 1_000_000_000):
        kept.write(step, states(step % 7))
    (tmp_path / "LATEST").unlink()
    assert checkpoints(tmp_path).newest().step == 1_000_000_000


def test_another_of_the_same_step_does_not_touch_the_first(tmp_path):
    kept = checkpoints(tmp_path)
    first, second = kept.write(8, states(1)), kept.write(8, states(2))
    assert (first.name, second.name) == ("step_000000008", "step_000000008_2")
    assert checkpoints(tmp_path).newest().states["agent"] == {"number": 2}
    shutil.rmtree(second)
    assert checkpoints(tmp_path).newest().states["agent"] == {"number": 1}


def test_the_last_few_and_the_best_are_kept(tmp_path):
    kept = checkpoints(tmp_path, keep=2)
    for step, score in enumerate([None, 0.5, 0.9, 0.7, 0.6, 0.9, 0.1, 0.2], start=1):
        kept.write(step, states(), score)
    # Of the equally good ones the later.
    assert names(tmp_path) == ["LATEST", "step_000000006", "step_000000007", "step_000000008"]
    checkpoints(tmp_path, keep=1).write(9, states(), 0.3)
    assert names(tmp_path) == ["LATEST", "step_000000006", "step_000000009"]


def test_the_final_weights_beside_them_stay(tmp_path):
    (tmp_path / "final").mkdir()
    kept = checkpoints(tmp_path, keep=1)
    for step in (1, 2, 3):
        kept.write(step, states())
    assert names(tmp_path) == ["LATEST", "final", "step_000000003"]


# Due --------------------------------------------------------------------------------------------


def test_what_collecting_the_states_takes_counts_and_the_first_is_due_at_once(tmp_path):
    clock = Clock()
    kept = checkpoints(tmp_path, clock, share=0.1)
    assert kept.due(), "the first shows what one costs"

    def slow() -> dict[str, Any]:
        clock.now += 2.0
        return {"agent": 0}

    kept.write(1, slow)
    clock.now += 9 * 2.0 * 2 - 0.01  # with the next one, too, they are to be a tenth
    assert not kept.due()
    clock.now += 0.02
    assert kept.due()


def test_a_save_waits_until_all_of_them_are_a_small_share_of_the_time():
    clock = Clock()
    throttle, spent, start = SaveThrottle(0.02, 0.2, clock), 0.0, clock.now
    for expected, cost in [(0.2, 3.0), (3.0, 0.5), (0.5, 0.5), (0.5, 0.5)]:
        # All saves so far and the next one are 2 %, work the other 98.
        wait = (spent + expected) * 49 - (clock.now - start - spent)
        clock.now += wait - 0.01
        assert not throttle.due()
        clock.now += 0.02
        assert throttle.due()
        with throttle.saving():
            clock.now += cost
        spent += cost
    assert spent / (clock.now - start) < 0.021


def test_a_save_of_unknown_cost_costs_what_the_last_one_did():
    clock = Clock()
    throttle = SaveThrottle(0.02, clock=clock)
    clock.now += 1.0
    throttle.took(1.0)
    clock.now += 1.0
    throttle.took(None)
    clock.now += 3 * 49.0 - 0.1
    assert not throttle.due()
    clock.now += 0.2
    assert throttle.due()


def test_a_share_of_one_saves_always_of_none_never_and_what_costs_nothing_at_once():
    clock = Clock()
    always, never = SaveThrottle(1.0, 0.2, clock), SaveThrottle(0.0, 0.2, clock)
    assert SaveThrottle(0.02).due()
    for _ in range(2):
        assert always.due()
        assert not never.due()
        for throttle in (always, never):
            throttle.took(5.0)
        clock.now += 1e9
    assert not never.due()


# Broken off -------------------------------------------------------------------------------------


@each("at", ["write", "rename"])
def test_one_that_is_broken_off_was_never_there(tmp_path, monkeypatch, at):
    """As a kill does, which lets nothing be tidied up."""
    checkpoints(tmp_path).write(1, states(1))

    class Killed(BaseException):
        pass

    def killed(*args: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", lambda *args, **words: None)
        if at == "write":
            patched.setattr(automix.agents.runs.checkpoints, "_write", killed)
        else:
            patched.setattr(Path, "rename", killed)
        with pytest.raises(Killed):
            checkpoints(tmp_path).write(2, states(2))
    assert len([name for name in names(tmp_path) if name.startswith(".")]) == 1
    assert checkpoints(tmp_path).newest().step == 1
    assert names(tmp_path) == ["LATEST", "step_000000001"]


@each(
    "number, told",
    [
        (errno.ENOSPC, r"no space left on the disk of .* for a checkpoint of \d+ bytes, \d+ are"),
        (errno.EROFS, r"/c cannot be written: Read-only file system"),
    ],
)
def test_a_disk_that_takes_no_more_is_told_and_the_last_one_stays(
    tmp_path, monkeypatch, number, told
):
    folder = tmp_path / "c"
    checkpoints(folder).write(1, states(1))
    real = os.fsync

    def full(descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith("trainings.safetensors"):
            raise OSError(number, os.strerror(number))
        real(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(ResourceError, match=told) as error:
            checkpoints(folder).write(2, states(2))
    assert "the last checkpoint is whole" in error.value.hint
    assert names(folder) == ["LATEST", "step_000000001"]
    assert checkpoints(folder).newest().step == 1


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "c").write_text("a file")
    with pytest.raises(ResourceError, match="/c cannot be written"):
        checkpoints(tmp_path / "c").write(1, states())


# Damaged ----------------------------------------------------------------------------------------


def change(name: str, how: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def changed(path: Path) -> None:
        (path / name).write_bytes(how((path / name).read_bytes()))

    return changed


def edit(**values: Any) -> Callable[[Path], None]:
    """Return what changes the manifest."""

    def edited(path: Path) -> None:
        manifest = json.loads((path / "manifest.json").read_text())
        (path / "manifest.json").write_text(json.dumps(manifest | values))

    return edited


def forged(content: bytes) -> Callable[[Path], None]:
    def replaced(path: Path) -> None:
        (path / "agent.safetensors").write_bytes(content)
        seal(path)

    return replaced


def linked(path: Path) -> None:
    """Put a file outside in place of one inside."""
    outside = path.parent.parent / "outside"
    outside.write_bytes((path / "agent.safetensors").read_bytes())
    (path / "agent.safetensors").unlink()
    (path / "agent.safetensors").symlink_to(outside)


def folder_linked(path: Path) -> None:
    outside = path.parent.parent / "elsewhere"
    path.rename(outside)
    path.symlink_to(outside)


class Bomb:
    def __reduce__(self) -> Any:
        return os.system, ("touch executed",)


def header(value: Any, rest: bytes = b"", length: int | None = None) -> bytes:
    text = json.dumps(value).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + rest


TENSOR = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}
KNOWN = {"bytes": 1, "sha256": "0"}
DAMAGE = {
    "a file is gone": (lambda path: (path / "agent.safetensors").unlink(), "agent.*No such file"),
    "no manifest": (lambda path: (path / "manifest.json").unlink(), "manifest.*No such file"),
    "cut": (change("agent.safetensors", lambda b: b[:-1]), r"agent.* has \d+ bytes, \d+ were"),
    "empty": (change("trainings.safetensors", lambda b: b""), "trainings.* has 0 bytes"),
    "a bit": (
        change("agent.safetensors", lambda b: b[:-1] + bytes([b[-1] ^ 1])),
        "agent.safetensors is not what was written: its SHA-256",
    ),
    "torn manifest": (change("manifest.json", lambda b: b[:-9]), "manifest.json is not JSON"),
    "manifest of zeros": (change("manifest.json", lambda b: bytes(len(b))), "is not JSON"),
    "a list": (change("manifest.json", lambda b: b"[]"), "is not a manifest of format 1"),
    "deep": (change("manifest.json", lambda b: b"[" * 100_000), "is not JSON"),
    "format": (edit(format=2), "is not a manifest of format 1"),
    "no files": (edit(files=None), "files is None"),
    "settings": (edit(settings=3), "settings is 3"),
    "no hash": (edit(files={"agent.safetensors": {"bytes": 3}}), "lacks bytes or sha256"),
    "up": (edit(files={"../../x.safetensors": KNOWN}), "names '../../x.safetensors'"),
    "root": (edit(files={"/etc/passwd": KNOWN}), "names '/etc/passwd'"),
    "other form": (edit(files={"agent.pkl": KNOWN}), "names 'agent.pkl'"),
    "link": (linked, "agent.safetensors is not a plain file"),
    "linked folder": (folder_linked, "step_000000002 is not a folder"),
    "pickle": (forged(pickle.dumps(Bomb())), "agent.safetensors is not a snapshot"),
    "huge header": (forged(header({}, length=2**40)), "is not a snapshot"),
    "claims 10 GB": (
        forged(header({"x": {"dtype": "U8", "shape": [10**10], "data_offsets": [0, 10**10]}})),
        "is not a snapshot",
    ),
    "overlap": (forged(header({"form": TENSOR, "x": TENSOR}, b"null")), "is not a snapshot"),
    "no form": (forged(header({"x": TENSOR}, b"null")), "is not a snapshot"),
}


@each("kind", DAMAGE)
def test_a_damaged_one_is_told_and_the_one_before_is_used(tmp_path, monkeypatch, caplog, kind):
    damage, told = DAMAGE[kind]
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "run" / "checkpoints"
    kept = checkpoints(folder)
    kept.write(1, states(1))
    damage(kept.write(2, states(2)))
    (folder / ".writing.abc").mkdir()
    found = checkpoints(folder).newest()
    assert found.step == 1
    assert found.states["agent"] == {"number": 1}
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert re.search(told, record.getMessage()), record.getMessage()
    assert not (tmp_path / "executed").exists()
    assert not (folder / ".writing.abc").exists()


def test_when_all_are_damaged_there_is_none(tmp_path):
    kept = checkpoints(tmp_path)
    for step in (1, 2):
        (kept.write(step, states()) / "manifest.json").unlink()
    assert checkpoints(tmp_path).newest() is None


def test_damaged_ones_neither_count_as_kept_nor_stay(tmp_path):
    kept = checkpoints(tmp_path, keep=2)
    for step in (1, 9):
        kept.write(step, states())
    (tmp_path / "step_000000009" / "agent.safetensors").unlink()
    kept = checkpoints(tmp_path, keep=2)
    assert kept.newest().step == 1
    kept.write(2, states())
    assert names(tmp_path) == ["LATEST", "step_000000001", "step_000000002"]


def test_a_linked_folder_is_removed_without_what_it_points_to(tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    kept = checkpoints(folder, keep=1)
    folder_linked(kept.write(1, states()))
    kept.write(2, states())
    kept.write(3, states())
    assert names(folder) == ["LATEST", "step_000000003"]
    assert (tmp_path / "run" / "elsewhere" / "agent.safetensors").exists()


def test_other_versions_are_told(tmp_path, caplog):
    path = checkpoints(tmp_path).write(1, states())
    edit(versions={"automix": "0.0.1", "numpy": np.__version__})(path)
    assert checkpoints(tmp_path).newest().step == 1
    assert "was written with other versions: automix '0.0.1', now" in caplog.text
    assert "torch None, now" in caplog.text
    assert "numpy" not in caplog.text


# Settings ---------------------------------------------------------------------------------------


def test_other_settings_are_refused_with_all_that_differs(tmp_path):
    kept = checkpoints(tmp_path)
    kept.write(1, states())
    found = kept.newest()
    refuse_other_settings(found, RUN)
    other = {"agent": {"name": "a2c", "learning_rate": 0.1}, "seed": 0, "new": 1}
    told = r"learning_rate was 0.003, is 0.1; agent.name was 'ppo', is 'a2c'; new was None, is 1"
    with pytest.raises(ConfigError, match=told):
        refuse_other_settings(found, other)
    refuse_other_settings(found, other, lambda name: name != "seed")
    with pytest.raises(ConfigError, match=r"settings: agent.name was 'ppo', is 'a2c'$"):
        refuse_other_settings(found, other, lambda name: name != "agent.name")
