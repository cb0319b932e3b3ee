"""What bad input gets: a line, a hint, an exit code, and nothing on the disk."""

from __future__ import annotations

import errno
import io
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tests.agents.tiny_run import WORDS
from tests.cli.conftest import everything_below

Usage = namedtuple("Usage", "total used free")

USAGE = {
    "agent.lr=1": "'trainer.lr'",
    "env.observations=[progress,val_los]": "'val_loss'",
    "compare.contestants=[agent,randm]": "'random'",
    "compare.contestants=[agent,fixed:cutmx@0.5]": "'cutmix'",
    "compare.contestants=[agent,none,none]": "none twice",
    "compare.contestants=[none]": "lacks 'agent'",
    "trainer.model=small_cnn_w81": "'small_cnn_w8'",
    "task.dataset=digts": "'digits'",
    "task=npz": "task.root is empty",
    "task=folder": "task.root is empty",
    "agent.total_timesteps=1": "agent.total_timesteps is 1, below one update of 8",
    "task.root=pictures": "pictures', but digits images come along",
    "env.observations=[progress,progress]": "env.observations names something twice",
    "env.observations=[progress,val_loss,val_loss]": "names something twice",
    "agent.group_size=1": "env.reward.baseline is 'group'",
    "device=tpu": "device is 'tpu'",
    "name=${oc.env:HOME}": "interpolation is not offered",
}
"""What is refused beyond the configuration, whose test has all else; one of it is the last."""


def test_an_override_that_cannot_be_used_ends_with_code_2(cli):
    for override, says in USAGE.items():
        outcome = cli("train", *WORDS, override)
        outcome.assert_refused(2, says)
        assert outcome.out == "", override
    assert everything_below(Path.cwd()) == []


def test_the_hint_is_the_next_step(cli):
    for override in ("seed=1,2", "+seed=1", "~seed", "tsk=digits", "seed=abc", "task=x"):
        assert len(cli("train", override).hint) > len("hint: "), override


def test_an_equals_sign_within_a_list_wants_quotes(cli):
    outcome = cli("config", "trainer.mix.options=[fmix.decay=2]")
    assert "wants quotes" in outcome.hint
    word = outcome.hint.partition(": '")[2].removesuffix("'")
    assert cli("config", word).code == 0


def test_other_commands_refuse_as_train_does(cli):
    for words, says in [
        (["list", "mixs"], "Did you mean 'mixes'"),
        (["evaluate", "randm"], "Did you mean 'random'"),
        (["evaluate", "agent", "policy=nowhere"], "neither a folder nor a policy that comes along"),
        (["compare", "compare.contestants=[agent,none]", "trainer.epochs=4"], "5 decisions"),
        (["compare", "policy=nowhere"], "neither a folder nor a policy that comes along"),
        (["compare", "compare.draws=3", "task.train_sizes=[9]", "task.label_noise=[0.1]"], "range"),
        (["config", "sed=1"], "Did you mean 'seed'"),
        (
            ["compare", "--dry-run", "compare.contestants=[agent]", "env.actions.ratios=[0.1]"],
            "the policy was learned with other actions",
        ),
        (["train", "--dry-run", "compare.contestants=[none]"], "lacks 'agent'"),
        (["train", "--dry-run", "trainer.mix.label_rule=saliency_mass"], "mixup@0.25 names none"),
        (["train", "--dry-run", "env.actions.saliency=[off,teacher]"], "trainer.teacher names"),
        (
            ["compare", "--dry-run", "compare.contestants=['fixed:cutmix@0.5+ema']"],
            "saliency 'ema' asks the moving average",
        ),
    ]:
        cli(*words).assert_refused(2, says, hint="")
    assert everything_below(Path.cwd()) == []


# Data -------------------------------------------------------------------------------------------


def picture(path: Path, size: tuple[int, int] = (8, 8), seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def folder_of(root: Path, classes: tuple[str, ...] = ("cat", "dog"), each: int = 6) -> Path:
    for number, name in enumerate(classes):
        for i in range(each):
            picture(root / name / f"{i}.png", seed=10 * number + i)
    return root


def missing(root: Path) -> str:
    return "nowhere"


def empty(root: Path) -> str:
    root.mkdir()
    return str(root)


def one_class(root: Path) -> str:
    return str(folder_of(root, ("cat",)))


def other_classes_to_test_on(root: Path) -> str:
    folder_of(root / "train")
    folder_of(root / "test", ("cat", "cow"))
    return str(root)


def corrupt(root: Path) -> str:
    folder_of(root)
    (root / "dog" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\nnot a picture")
    return str(root)


def of_differing_size(root: Path) -> str:
    picture(folder_of(root) / "dog" / "3.png", size=(8, 10))
    return str(root)


def with_pickled_objects(root: Path) -> str:
    path = root.with_suffix(".npz")
    np.savez(path, images=np.array([{"a": 1}, [2]], dtype=object), labels=np.array([0, 1]))
    return str(path)


def with_one_class(root: Path) -> str:
    path = root.with_suffix(".npz")
    np.savez(path, images=np.zeros((9, 8, 8), np.uint8), labels=np.zeros(9, np.int64))
    return str(path)


def cut_off(root: Path) -> str:
    buffer = io.BytesIO()
    np.savez(buffer, images=np.zeros((9, 8, 8), np.uint8), labels=np.arange(9) % 3)
    path = root.with_suffix(".npz")
    path.write_bytes(buffer.getvalue()[:300])
    return str(path)


DATA = [
    ("folder", missing, "nowhere: does not exist"),
    ("folder", empty, "no png or jpg image"),
    ("folder", one_class, "one class only (cat)"),
    ("folder", other_classes_to_test_on, "no images of class"),
    ("folder", corrupt, "3.png"),
    ("folder", of_differing_size, "3.png"),
    ("npz", missing, "nowhere: does not exist"),
    ("npz", with_pickled_objects, "no pickle is ever loaded"),
    ("npz", with_one_class, "one class only"),
    ("npz", cut_off, "is not an npz file, or is cut off"),
]


def test_data_that_cannot_be_used_ends_with_code_3(cli, tmp_path):
    small = ("task.image_size=0", "trainer.model=small_cnn_w8", "device=cpu")
    for number, (task, make, says) in enumerate(DATA):
        root = make(tmp_path / f"data{number}")
        for words in (["train"], ["train", "--dry-run"]):
            outcome = cli(*words, f"task={task}", f"task.root={root}", *small)
            outcome.assert_refused(3, says, hint="")
    assert everything_below(Path.cwd()) == []


def test_too_few_images_for_the_splits_asked_for_end_with_code_3(cli):
    cli("train", *WORDS, "task.train_sizes=[2000]").assert_refused(3, "digits", "task.train_sizes")
    assert everything_below(Path.cwd()) == []


def test_files_that_cannot_be_used_end_with_code_3(cli, run, tmp_path):
    damaged = Path(shutil.copytree(run / "export", tmp_path / "damaged"))
    with (damaged / "policy.safetensors").open("r+b") as file:
        file.truncate(100)
    empty_folder = tmp_path / "empty"
    empty_folder.mkdir()
    for words, says in [
        (["evaluate", "{damaged}"], "policy.safetensors"),
        (["compare", "policy={damaged}"], "policy.safetensors"),
        (["compare", "--dry-run", "policy={damaged}"], "policy.safetensors"),
        (["compare", "policy=no/where"], "no/where/policy.json does not exist"),
        (["evaluate", "{empty}"], "policy.json does not exist"),
        (["export", "{damaged}", "--out", "out"], "policy.safetensors"),
        (["export", "nowhere", "--out", "out"], "holds no exported policy"),
        (["report", "nowhere"], "nowhere"),
        (["report", "{empty}"], "empty"),
    ]:
        outcome = cli(*(word.format(damaged=damaged, empty=empty_folder) for word in words))
        outcome.assert_refused(3, says)
    assert everything_below(Path.cwd()) == []
    assert everything_below(empty_folder) == []


def test_a_policy_that_names_what_is_unknown_here_ends_with_code_3(cli, run, tmp_path):
    copied = Path(shutil.copytree(run / "export", tmp_path / "copied"))
    text = (copied / "policy.json").read_text(encoding="utf-8")
    (copied / "policy.json").write_text(text.replace('"val_loss"', '"val_los"'), encoding="utf-8")
    cli("evaluate", copied, *WORDS).assert_refused(3, "'val_los' is not a")


# The machine ------------------------------------------------------------------------------------


def test_a_gpu_that_is_not_there_ends_with_code_4(cli, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for words in (["train"], ["train", "--dry-run"], ["evaluate", "none"]):
        outcome = cli(*words, *WORDS, "device=cuda:1")
        outcome.assert_refused(4, "device=cuda:1 was asked for, this machine has 0", "device=cpu")
    assert everything_below(Path.cwd()) == []


def test_a_place_that_cannot_be_written_to_ends_with_code_4_before_training(cli, monkeypatch):
    """Below a regular file, where not even root can write."""
    monkeypatch.setattr("automix.agents.jobs.run.workers_of", None)  # training would fail otherwise
    Path("file").write_text("", encoding="utf-8")
    for command, contestants in ("train", "[agent,none]"), ("compare", "[none]"):
        words = (*WORDS, f"compare.contestants={contestants}", "--run-dir", "file/runs/x")
        outcome = cli(command, *words)
        outcome.assert_refused(4, "file/runs/x cannot be made: Not a directory", "--run-dir")
    assert everything_below(Path.cwd()) == ["file"]


def test_a_disk_that_is_all_but_full_ends_with_code_4_before_anything_is_trained(cli, monkeypatch):
    monkeypatch.setattr("automix.agents.jobs.run.workers_of", None)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(100, 99, 2**20))
    outcome = cli("train", *WORDS)
    outcome.assert_refused(4, "1 MB are free on the disk of ")
    assert ", wanted 64" in outcome.error
    assert everything_below(Path.cwd()) == []


def test_a_disk_that_fills_up_ends_with_code_4_and_no_half_written_file(cli, monkeypatch):
    """There is no room any more for the result."""
    write = Path.write_bytes

    def fills_up(path: Path, content: bytes) -> int:
        if b'"agent_minus"' in content:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", fills_up)
    outcome = cli("compare", *WORDS, "compare.contestants=[none,random]", "--run-dir", "x")
    outcome.assert_refused(4, "no space left on the disk of")
    assert "result.json" in outcome.error
    assert [name for name in everything_below(Path("x")) if "result" in name] == []
    assert '"state": "failed"' in Path("x/status.json").read_text(encoding="utf-8")


# Run directories --------------------------------------------------------------------------------


def test_a_run_directory_that_exists_ends_with_code_2_and_is_left_alone(cli, run):
    before = {name: (run / name).stat().st_mtime_ns for name in everything_below(run)}
    outcome = cli("train", *WORDS, "--run-dir", run)
    outcome.assert_refused(2, "exists", "--overwrite")
    assert f"python run.py resume {run}" in outcome.hint
    assert {name: (run / name).stat().st_mtime_ns for name in everything_below(run)} == before
