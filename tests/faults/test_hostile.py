"""Rows 21 to 23: files and words made by somebody who means harm."""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import os
import pickle
import resource
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from automix.agents.jobs.run import train_or_resume
from automix.agents.runs.checkpoints import MANIFEST
from automix.core.errors import DataError
from automix.core.snapshots import FORM, from_bytes
from automix.policy.policy import load_policy
from automix.policy.schedule import load_schedule
from tests.agents import tiny_run
from tests.cases import each
from tests.cli.conftest import cli, everything_below, run  # noqa: F401 (fixtures)
from tests.faults.killing import results_of, run_killed_at
from tests.faults.runs import WORDS
from tests.test_architecture import calls, offences

pytestmark = pytest.mark.fault


class Payload:
    """Leaves a file behind where somebody unpickles it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.marker,)


@pytest.fixture
def marker(tmp_path) -> Path:
    return tmp_path / "pwned"


def raw(payload: Payload) -> bytes:
    return pickle.dumps(payload)


def of_torch(payload: Payload) -> bytes:
    path = payload.marker.with_name("made.pt")
    torch.save({"state": payload}, path)
    return path.read_bytes()


def of_sb3(payload: Payload) -> bytes:
    """As stable-baselines3 saves an agent: `data` holds objects that `PPO.load` unpickles."""
    path = payload.marker.with_name("made.zip")
    secret = base64.b64encode(pickle.dumps(payload)).decode()
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data", json.dumps({"policy_class": {":serialized:": secret}}))
        file.writestr("policy.pth", of_torch(payload))
        file.writestr("_stable_baselines3_version", "2.9.2")
    return path.read_bytes()


def of_numpy(payload: Payload) -> bytes:
    path = payload.marker.with_name("made.npz")
    np.savez(path, images=np.array([payload, None], dtype=object), labels=np.array([0, 1]))
    return path.read_bytes()


MADE = {"pickle": raw, "pt": of_torch, "zip": of_sb3, "npz": of_numpy}
every_kind = pytest.mark.parametrize("kind", MADE)


@pytest.mark.row(21)
@pytest.mark.parametrize("kind", ["pickle", "pt"])
def test_the_payload_would_run(marker, kind):
    """Or else the other tests would show nothing."""
    content = MADE[kind](Payload(marker))
    if kind == "pickle":
        pickle.loads(content)
    else:
        torch.load(marker.with_name("made.pt"), weights_only=False)
    assert marker.exists()


@pytest.mark.row(21)
@every_kind
def test_a_file_with_code_is_refused_wherever_it_is_offered(cli, tmp_path, marker, kind):  # noqa: F811
    file = tmp_path / {"pickle": "vecnormalize.pkl"}.get(kind, f"offered.{kind}")
    file.write_bytes(MADE[kind](Payload(marker)))
    for code, words in (
        (3, ("resume", file)),
        (3, ("report", file)),
        (3, ("export", file, "--out", "out")),
        (3, ("compare", f"policy={file}", *WORDS)),
        (3, ("train", "task=npz", f"task.root={file}", "device=cpu")),
        (3, ("train", "task=folder", f"task.root={file}", "device=cpu")),
        (
            3,
            (
                *("train", *WORDS, "env.actions.saliency=['off',teacher]"),
                *("trainer.teacher.model=small_cnn_w8", f"trainer.teacher.weights={file}"),
            ),
        ),
        (2, ("evaluate", file)),
    ):
        outcome = cli(*words)
        assert outcome.code == code, (words, outcome.err)
        assert not marker.exists()
    assert everything_below(Path.cwd()) == []


@pytest.mark.row(21)
@every_kind
def test_in_the_place_of_weights_it_is_no_weights(cli, run, tmp_path, marker, kind):  # noqa: F811
    """Whoever swaps the file can swap its hash too."""
    folder = Path(shutil.copytree(run / "export", tmp_path / "policy"))
    content = MADE[kind](Payload(marker))
    (folder / "policy.safetensors").write_bytes(content)
    form = json.loads((folder / "policy.json").read_text())
    form["sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "policy.json").write_text(json.dumps(form))
    cli("evaluate", folder, *WORDS).assert_refused(3, "policy.safetensors is damaged")
    assert not marker.exists()


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    """A run that was killed while it learned."""
    path = tmp_path_factory.mktemp("begun") / "run"
    assert not run_killed_at(45, tiny_run.settings(*WORDS), path)
    assert list((path / "checkpoints").glob("step_*"))
    return path


@pytest.mark.row(21)
@every_kind
def test_in_a_checkpoint_it_is_a_damaged_one(cli, begun, tmp_path, marker, undisturbed, kind):  # noqa: F811
    path = Path(shutil.copytree(begun, tmp_path / "run"))
    content = MADE[kind](Payload(marker))
    for folder in (path / "checkpoints").glob("step_*"):
        manifest = json.loads((folder / MANIFEST).read_text())
        for name in manifest["files"]:
            (folder / name).write_bytes(content)
            known = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            manifest["files"][name] = known
        (folder / MANIFEST).write_text(json.dumps(manifest))
        (folder / "vecnormalize.pkl").write_bytes(content)
    (path / "checkpoints" / "finished.jsonl").write_bytes(content)
    (path / "checkpoints" / "comparing_0.safetensors").write_bytes(content)
    outcome = cli("resume", path)
    assert outcome.code == 0, outcome.err
    assert not marker.exists()
    assert results_of(path) == undisturbed
    assert "is not a snapshot" in outcome.err


@pytest.mark.row(21)
def test_no_text_is_run():
    """``tests/test_architecture.py`` has the same for all that unpickles."""
    assert not offences(runs_text)
    for name in ("eval", "exec", "builtins.exec", "os.system", "hydra.utils.instantiate"):
        assert runs_text(ast.parse(f"{name}(x)"))
    assert not runs_text(ast.parse("net.eval()"))


def runs_text(tree: ast.AST) -> list[str]:
    """Return the calls that make code of text."""
    names = [name for name, _ in calls(tree)]
    banned = {"eval", "exec", "os.system", "os.popen", "builtins.eval", "builtins.exec"}
    return [n for n in names if n in banned or n.rpartition(".")[2] == "instantiate"]


# Words and text ----------------------------------------------------------------------------------


@pytest.mark.row(22)
@pytest.mark.parametrize(
    "word",
    [
        "+task._target_=os.system",
        "task={_target_:os.system}",
        "name=${oc.decode:1}",
        "name=/etc/x",
        "task=../../../etc/passwd",
        "experiment=/etc/passwd",
        "hydra/launcher=basic",
        "seed=!!python/object/apply:os.system ['true']",
    ],
)
def test_a_word_that_wants_more_than_to_be_a_word_is_refused(cli, word):  # noqa: F811
    outcome = cli("train", *WORDS, word)
    assert outcome.code == 2, outcome.err
    assert everything_below(Path.cwd()) == []


HOSTILE = '!!python/object/apply:os.system ["touch {marker}"]'


@pytest.mark.row(22)
def test_yaml_is_plain(cli, run, begun, tmp_path, marker):  # noqa: F811
    folder = Path(shutil.copytree(run / "export", tmp_path / "policy"))
    (folder / "schedule.yaml").write_text(f"format: 1\nschedule: {HOSTILE.format(marker=marker)}\n")
    with pytest.raises(DataError, match=r"schedule.yaml is not plain YAML"):
        load_schedule(folder)
    outcome = cli("export", folder, "--out", "out")
    assert outcome.code == 3
    path = Path(shutil.copytree(begun, tmp_path / "run"))
    with (path / "config.yaml").open("a") as file:
        file.write(f"x: {HOSTILE.format(marker=marker)}\n")
    cli("resume", path).assert_refused(3, "config.yaml is not plain YAML")
    assert not marker.exists()


@pytest.mark.row(22)
def test_a_few_lines_of_aliases_do_not_become_gigabytes(cli, run, begun, tmp_path):  # noqa: F811
    lines = ["b0: &b0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"b{n}: &b{n} [{', '.join([f'*b{n - 1}'] * 9)}]" for n in range(1, 12)]
    bomb = "\n".join(lines)
    folder = Path(shutil.copytree(run / "export", tmp_path / "policy"))
    with (folder / "schedule.yaml").open("a") as file:
        file.write(f"{bomb}\nmix: {{options: *b11}}\n")
    outcome = cli("export", folder, "--out", "out")
    outcome.assert_refused(3, "schedule.yaml is not plain YAML: it holds more than")
    path = Path(shutil.copytree(begun, tmp_path / "run"))
    with (path / "config.yaml").open("a") as file:
        file.write(f"{bomb}\n")
    cli("resume", path).assert_refused(3, "config.yaml is not plain YAML")


@pytest.mark.row(22)
@pytest.mark.parametrize("value", ["${oc.env:HOME}", "${seed}"])
def test_a_shared_file_is_not_expanded(cli, run, begun, tmp_path, value):  # noqa: F811
    path = Path(shutil.copytree(begun, tmp_path / "run"))
    config = (path / "config.yaml").read_text()
    (path / "config.yaml").write_text(config.replace("name: ''", f"name: {value}"))
    cli("resume", path).assert_refused(2, "interpolation")
    folder = Path(shutil.copytree(run / "export", tmp_path / "policy"))
    text = (folder / "policy.json").read_text()
    (folder / "policy.json").write_text(text.replace('"digits"', json.dumps(value)))
    assert load_policy(folder).about["dataset"] == value


@pytest.mark.row(22)
@pytest.mark.parametrize(
    "name", ["../../../x.safetensors", "/tmp/x.safetensors", "a/b.safetensors"]
)
def test_no_name_in_a_file_leads_out_of_the_run(cli, begun, tmp_path, undisturbed, name):  # noqa: F811
    path = Path(shutil.copytree(begun, tmp_path / "run"))
    for folder in (path / "checkpoints").glob("step_*"):
        manifest = json.loads((folder / MANIFEST).read_text())
        manifest["files"][name] = manifest["files"]["agent.safetensors"]
        (folder / MANIFEST).write_text(json.dumps(manifest))
    outcome = cli("resume", path)
    assert outcome.code == 0
    assert "which is no state of ours" in outcome.err
    assert results_of(path) == undisturbed


@pytest.mark.row(22)
def test_members_of_an_archive_are_never_written_anywhere(cli, tmp_path):  # noqa: F811
    with zipfile.ZipFile(tmp_path / "slip.npz", "w") as file:
        file.writestr("../../evil.npy", b"x")
        file.writestr("images.npy", b"x")
    before = everything_below(tmp_path)
    outcome = cli("train", "task=npz", f"task.root={tmp_path / 'slip.npz'}", "device=cpu")
    assert outcome.code == 3
    assert everything_below(tmp_path) == before
    assert not (tmp_path.parent / "evil.npy").exists()
    assert not (tmp_path.parents[1] / "evil.npy").exists()


# Sizes and shapes --------------------------------------------------------------------------------


def with_header(header: dict[str, object] | bytes, body: bytes = b"", claimed: int = 0) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", claimed or len(text)) + text + body


def tensor(shape: list[int], start: int, end: int) -> dict[str, object]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}


TEN_GB = 10 * 2**30
HEADERS = {
    "a header of a terabyte": with_header(b"{}", claimed=2**40),
    "a header of 200 MB": with_header(b"{}", claimed=2 * 10**8),
    "overlapping": with_header({"form": tensor([1], 0, 4), "0": tensor([1], 2, 6)}, body=b"\0" * 6),
    "10 GB claimed": with_header({"form": tensor([TEN_GB // 4], 0, TEN_GB)}, body=b"\0" * 8),
    "a shape that does not fit": with_header({"form": tensor([2, 3], 0, 4)}, body=b"\0" * 4),
    "more elements than a number holds": with_header(
        {"form": tensor([2**40, 2**40], 0, 4)}, body=b"\0" * 4
    ),
    "a form that claims what is not there": save(
        {FORM: torch.frombuffer(bytearray(b'{"tensor": "0", "device": "cpu"}'), dtype=torch.uint8)}
    ),
}


@pytest.mark.row(23)
@pytest.mark.parametrize("content", HEADERS.values(), ids=list(HEADERS))
def test_a_header_that_lies_is_refused_before_memory_is_taken(cli, begun, tmp_path, content):  # noqa: F811
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match="is not a snapshot"):
        from_bytes(content)
    file = tmp_path / "weights.safetensors"
    file.write_bytes(content)
    outcome = cli(
        *("train", *WORDS, "env.actions.saliency=['off',teacher]"),
        *("trainer.teacher.model=small_cnn_w8", f"trainer.teacher.weights={file}"),
    )
    assert outcome.code == 3, outcome.err
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 2**20  # kilobytes


TENFOLD = "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))
BOMB = f"a0: &a0 [x]\n{TENFOLD}"


@pytest.mark.row(26)
def test_anchors_are_counted_before_they_are_expanded(cli, run, begun, tmp_path):  # noqa: F811
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    folder = Path(shutil.copytree(run / "export", tmp_path / "policy"))
    written = (folder / "schedule.yaml").read_text(encoding="utf-8")
    for place, bomb in (("mix: {}", "mix: {options: *a11}"), ("by_kind:", "more: *a11\nby_kind:")):
        assert place in written
        text = BOMB + written.replace(place, bomb)
        (folder / "schedule.yaml").write_text(text, encoding="utf-8")
        outcome = cli("export", folder, "--out", "out")
        outcome.assert_refused(
            3, "schedule.yaml is not plain YAML: it holds more than 262144 values"
        )
    path = Path(shutil.copytree(begun, tmp_path / "run"))
    written = (path / "config.yaml").read_text(encoding="utf-8")
    for config in (BOMB + written, written + BOMB, BOMB + written.replace("seed: 0", "seed: *a11")):
        (path / "config.yaml").write_text(config, encoding="utf-8")
        outcome = cli("resume", path)
        outcome.assert_refused(3, "config.yaml is not plain YAML: it holds more than 262144 values")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18  # kilobytes


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def zeros(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


def made_a_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


@pytest.mark.row(26)
@pytest.mark.timeout(60)
@each("make", [pipe, zeros, made_a_folder])
def test_what_is_no_file_is_not_taken_for_one(cli, run, begun, tmp_path, make):  # noqa: F811
    for number, name in enumerate(
        (
            *("config.yaml", "status.json", "log.txt", "metrics.jsonl", "checkpoints/begun.json"),
            *("checkpoints/lock", "checkpoints/finished.jsonl", "checkpoints/learned.json"),
        )
    ):
        path = Path(shutil.copytree(begun, tmp_path / f"run{number}"))
        make(path / name)
        cli("resume", path).assert_refused(3, str(path))
    for name in ("policy.json", "policy.safetensors", "schedule.yaml"):
        path = Path(shutil.copytree(run / "export", tmp_path / name))
        make(path / name)
        cli("export", path, "--out", "out").assert_refused(
            3, "policy" if "policy" in name else name
        )
        if name != "schedule.yaml":
            cli("evaluate", path, *WORDS).assert_refused(3, name)
    for name in ("result.json", "trials.jsonl", "config.yaml", "env.json", "command.txt"):
        path = Path(shutil.copytree(run, tmp_path / f"report of {name}"))
        make(path / name)
        cli("report", path).assert_refused(3, name)


@pytest.mark.row(21)
def test_a_whole_run_can_be_taken_up_without_any_of_this(begun, tmp_path, undisturbed):
    """So that what the tests above refuse is the change, not the run."""
    path = Path(shutil.copytree(begun, tmp_path / "run"))
    train_or_resume(tiny_run.settings(*WORDS), path)
    assert results_of(path) == undisturbed
