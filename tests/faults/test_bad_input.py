"""Rows 16 to 20: words, images, batches, checkpoints and policies that cannot be used.

What each of many mistakes is answered with, the default tests say (``tests/cli/test_bad_input.py``
and those of each part); here is one of each kind, through the command line.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from automix.agents.jobs.run import train_or_resume
from automix.agents.parallel.machine import usable_cores
from automix.agents.runs.checkpoints import MANIFEST
from automix.mixing.actions import MixAction
from automix.mixing.batch import mix_batch
from tests.agents import tiny_run
from tests.cases import each
from tests.cli.conftest import cli, everything_below, run  # noqa: F401 (fixtures)
from tests.cli.test_bad_input import folder_of, picture
from tests.contract import FORMS
from tests.faults.killing import results_of, run_killed_at
from tests.faults.runs import WORDS

pytestmark = pytest.mark.fault


@pytest.mark.row(16)
def test_an_override_that_cannot_be_used(cli):  # noqa: F811
    outcome = cli("train", *WORDS, "task=cifr10")
    assert outcome.code == 2
    assert outcome.error == (
        "error: 'task=cifr10': there is no task 'cifr10'. Did you mean 'cifar10'?"
    )
    assert everything_below(Path.cwd()) == []


# Suites ------------------------------------------------------------------------------------------

SUITES = [
    ("{a: {trainer: {epoch: 3}}}", 2, "world 'a': trainer: Key 'epoch'"),
    ("{a: {trainer: {epochs: [2, 1]}}}", 2, "world 'a epochs=1': a budget of 1 epochs is shorter"),
    ("{a: {task: {dataset: npz, root: no.npz}}, b: {}}", 3, "world 'a': "),
    ("{a: {}, b: {trainer: {mix: {label_rule: saliency_mass}}}}", 2, "world 'b': "),
]


@pytest.mark.row(16)
@pytest.mark.parametrize(("suite", "code", "says"), SUITES)
def test_a_suite_that_cannot_be_used(cli, suite, code, says):  # noqa: F811
    outcome = cli("train", *WORDS, f"worlds.suite={suite}", "env.decisions=2")
    outcome.assert_refused(code, says, hint="")
    assert everything_below(Path.cwd()) == []


# Images ------------------------------------------------------------------------------------------


def cut_off(root: Path) -> None:
    folder_of(root)
    picture(root / "dog" / "3.jpg", size=(32, 32))
    content = (root / "dog" / "3.jpg").read_bytes()
    (root / "dog" / "3.jpg").write_bytes(content[: len(content) // 2])


def no_image(root: Path) -> None:
    folder_of(root)
    (root / "dog" / "3.png").write_text("a letter", encoding="utf-8")


SMALL = ("task.image_size=8", "trainer.model=small_cnn_w8", "device=cpu")


@pytest.mark.row(17)
@pytest.mark.parametrize(
    ("make", "lines"), [(cut_off, ["3.jpg", "1 of 13"]), (no_image, ["3.png", "1 of 12"])]
)
def test_images_that_cannot_be_used(cli, tmp_path, make, lines):  # noqa: F811
    make(tmp_path / "data")
    outcome = cli("train", "task=folder", f"task.root={tmp_path / 'data'}", *SMALL)
    assert outcome.code == 3
    for line in lines:
        assert line in outcome.error
    assert outcome.hint
    assert everything_below(Path.cwd()) == []


@pytest.mark.row(17)
def test_grey_and_transparent_images_are_fine_and_bad_ones_can_be_left_out(cli, tmp_path):  # noqa: F811
    root = folder_of(tmp_path / "data", each=12)
    for number, mode in enumerate(["L", "RGBA", "P"]):
        Image.open(root / "cat" / f"{number}.png").convert(mode).save(
            root / "cat" / f"{number}.png"
        )
    (root / "dog" / "3.png").write_text("a letter", encoding="utf-8")
    words = [word for word in WORDS if not word.startswith(("task.", "compare.kinds"))]
    own = (f"task.root={root}", "task.skip_bad=true", "task.image_size=8", "task.val_size=6")
    last = ("trainer.batch_size=4", "trainer.model=small_cnn_w8", "task.train_sizes=[0]")
    outcome = cli("train", "task=folder", *words, *own, *last, "--run-dir", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    assert "3.png" in outcome.err


def link_up(root: Path) -> Path:
    (folder_of(root) / "cat" / "up").symlink_to("..")
    return root / "cat" / "up"


def link_round(root: Path) -> Path:
    (folder_of(root) / "loop").symlink_to(root)
    return root / "loop"


def pipe(root: Path) -> Path:
    os.mkfifo(folder_of(root) / "cat" / "a.png")
    return root / "cat" / "a.png"


def device(root: Path) -> Path:
    (folder_of(root) / "cat" / "a.png").symlink_to("/dev/zero")
    return root / "cat" / "a.png"


def pipe_of_arrays(root: Path) -> Path:
    os.mkfifo(root)
    return root


def encrypted(root: Path) -> Path:
    with root.open("wb") as file:
        np.savez(file, images=np.zeros((4, 8, 8), np.uint8), labels=np.arange(4))
    content = bytearray(root.read_bytes())
    content[6] = content[content.index(b"PK\x01\x02") + 8] = 1
    root.write_bytes(content)
    return root


@pytest.mark.row(17)
@pytest.mark.parametrize(
    ("make", "dataset"),
    [
        *((make, "folder") for make in (link_up, link_round, pipe, device, encrypted)),
        *((make, "npz") for make in (pipe_of_arrays, encrypted, folder_of)),
    ],
)
def test_files_and_links_that_would_hang_repeat_or_crash(cli, tmp_path, make, dataset):  # noqa: F811
    named = make(tmp_path / "data")
    outcome = cli("train", f"task={dataset}", f"task.root={tmp_path / 'data'}", "device=cpu")
    assert outcome.code == 3, outcome.err
    assert str(named) in outcome.error
    assert outcome.hint
    assert everything_below(Path.cwd()) == []


@pytest.mark.row(17)
def test_a_small_file_of_a_huge_array_asks_for_its_copies_too(cli, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr("automix.data.npz.free_memory", lambda: 150_000_000)
    file = tmp_path / "data.npz"
    np.savez_compressed(file, images=np.zeros((100, 1000, 1000), "u1"), labels=np.arange(100) % 2)
    outcome = cli("train", "task=npz", f"task.root={file}", "device=cpu")
    assert outcome.code == 4, outcome.err
    assert "takes 0.2 GB" in outcome.error
    assert file.stat().st_size < 10**6


# The machine --------------------------------------------------------------------------------------


@pytest.mark.row(29)
@each(
    "word",
    [
        *("compare.resamples=1000000000000", "agent.net_arch=[300000,300000]", "workers=1000000"),
        *("compare.seeds=1000000000", "agent.groups=1000000000", "compare.draws=1000000000"),
    ],
)
def test_more_memory_than_there_is_is_not_asked_for(cli, word):  # noqa: F811
    for command in ("train", "train --dry-run"):
        outcome = cli(*command.split(), *WORDS, "agent.total_timesteps=1000000000000", word)
        outcome.assert_refused(4, f"error: {word.partition('=')[0]} is ", "ask for less")
    assert everything_below(Path.cwd()) == []


@pytest.mark.row(29)
def test_threads_beyond_the_cores_are_not_used(cli):  # noqa: F811
    outcome = cli("evaluate", "none", *WORDS, "threads=3000")
    assert outcome.code == 0
    assert "threads is 3000, this machine uses its" in outcome.err
    assert torch.get_num_threads() <= usable_cores()
    torch.set_num_threads(1)


# Batches -----------------------------------------------------------------------------------------


def soft(n: int) -> torch.Tensor:
    return torch.rand((n, 4), generator=torch.Generator().manual_seed(n)).softmax(1)


BATCHES: dict[str, Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]] = {
    "one image": lambda x: (x[:1], torch.tensor([3])),
    "an odd number": lambda x: (x[:7], torch.arange(7) % 4),
    "fewer than classes": lambda x: (x[:3], torch.arange(3)),
    "soft labels": lambda x: (x, soft(8)),
    "labels in double precision": lambda x: (x, soft(8).double()),
    "bytes": lambda x: ((x * 255).byte(), torch.arange(8) % 4),
    "half precision": lambda x: (x.half(), torch.arange(8) % 4),
    "every second column": lambda x: (x.repeat_interleave(2, 3)[..., ::2], torch.arange(8) % 4),
    "channels last": lambda x: (x.to(memory_format=torch.channels_last), torch.arange(8) % 4),
}


@pytest.mark.row(18)
@each("batch", BATCHES)
@each("form", FORMS)
def test_every_mix_takes_every_batch(form, batch):
    images = torch.rand((8, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    images, labels = BATCHES[batch](images)
    maps = torch.ones((len(images), 8, 8)) / 64 if form.guided else None
    action = MixAction(form.method, 0.3, "spectral" if form.guided else "off")
    rng = np.random.default_rng(0)
    mixed = mix_batch(images, labels, action, num_classes=4, rng=rng, saliency=maps)
    assert mixed.images.shape == images.shape
    assert mixed.images.dtype == images.dtype
    assert torch.isfinite(mixed.images.float()).all()
    torch.testing.assert_close(mixed.targets.sum(1).float(), torch.ones(len(images)))


# Checkpoints -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    """A run that was killed when it had two checkpoints."""
    folder = tmp_path_factory.mktemp("begun")
    for write in range(42, 56):
        path = folder / str(write)
        assert not run_killed_at(write, tiny_run.settings(*WORDS), path)
        found = sorted((path / "checkpoints").glob("step_*"))
        latest = path / "checkpoints" / "LATEST"
        if len(found) == 2 and latest.read_text() == f"{found[1].name}\n":
            return path
    raise AssertionError


def newest(path: Path) -> Path:
    return max((path / "checkpoints").glob("step_*"))


def one_bit(path: Path) -> None:
    file = newest(path) / "agent.safetensors"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def without_manifest(path: Path) -> None:
    (newest(path) / MANIFEST).unlink()


@pytest.mark.row(19)
@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (one_bit, "its SHA-256 differs"),
        (without_manifest, "manifest.json cannot be read"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over(cli, tmp_path, begun, undisturbed, damage, line):  # noqa: F811
    path = Path(shutil.copytree(begun, tmp_path / "run"))
    damage(path)
    outcome = cli("resume", path)
    assert outcome.code == 0, outcome.err
    told_so = [line for line in outcome.err.splitlines() if "the one before is used" in line]
    assert len(told_so) == 1
    assert line in told_so[0]
    assert results_of(path) == undisturbed


@pytest.mark.row(19)
def test_a_checkpoint_of_another_agent_is_refused(cli, tmp_path, begun):  # noqa: F811
    """Its manifest is whole, and says so; or does not, and the weights do."""
    wider = tmp_path / "wider"
    settings = tiny_run.settings(*WORDS, "agent.net_arch=[9]")
    train_or_resume(settings, wider)
    path = Path(shutil.copytree(begun, tmp_path / "run"))
    for own in (path / "checkpoints").glob("step_*"):
        shutil.rmtree(own)
    other = Path(shutil.copytree(newest(wider), path / "checkpoints" / newest(wider).name))
    outcome = cli("resume", path)
    outcome.assert_refused(2, "belongs to other settings: agent.net_arch was [9], is [8]")
    content = json.loads((other / MANIFEST).read_text())
    content["settings"]["agent"]["net_arch"] = [8]
    (other / MANIFEST).write_text(json.dumps(content))
    outcome = cli("resume", path)
    outcome.assert_refused(3, "cannot be gone on from", "remove it to go on from the one before")


# Policies ----------------------------------------------------------------------------------------


def in_form(**changes: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        content = json.loads((folder / "policy.json").read_text())
        content["form"] |= changes
        (folder / "policy.json").write_text(json.dumps(content))

    return edit


def nested(folder: Path) -> None:
    (folder / "policy.json").write_text("[" * 10**6)


@pytest.mark.row(20)
@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (in_form(methods=["none", "mixup", "cutmx", "rmix"]), "'cutmx' is not a mix"),
        (in_form(ratios=[0.1, math.nan, 0.5]), "the ratio of mixup is nan"),
        (in_form(shell="rm"), "shell"),
        (nested, "is not JSON"),
    ],
)
def test_a_policy_that_cannot_be_used(cli, run, tmp_path, damage, line):  # noqa: F811
    folder = Path(shutil.copytree(run / "export", tmp_path / "policy"))
    damage(folder)
    for words in (("evaluate", folder), ("compare", f"policy={folder}")):
        outcome = cli(*words, *WORDS)
        outcome.assert_refused(3, line)
        assert "policy.json" in outcome.error
    assert everything_below(Path.cwd()) == []


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.row(20)
@pytest.mark.parametrize("name", ["policy.json", "policy.safetensors", "schedule.yaml"])
def test_a_policy_of_pipes_and_devices_is_not_read(cli, run, tmp_path, name):  # noqa: F811
    for make in (os.mkfifo, endless, Path.mkdir):
        folder = Path(shutil.copytree(run / "export", tmp_path / make.__name__))
        (folder / name).unlink()
        make(folder / name)
        cli("export", folder, "--out", "out").assert_refused(3, name)
    assert everything_below(Path.cwd()) == []


@pytest.mark.row(20)
@pytest.mark.parametrize("epochs", [1, 10**9])
def test_a_policy_made_for_other_lengths_plays_to_the_end(cli, run, tmp_path, epochs):  # noqa: F811
    """Only a schedule has a length."""
    folder = Path(shutil.copytree(run / "export", tmp_path / "policy"))
    in_form(epochs_per_action=epochs)(folder)
    outcome = cli("evaluate", folder, *WORDS, "trainer.epochs=3")
    assert outcome.code == 0
