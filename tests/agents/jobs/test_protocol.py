"""The published protocol end to end, on a few images of the right shapes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from automix.agents.config.compose import load_settings
from automix.agents.jobs.run import run_compare

ALL = ("none", "fixed:mixup@0.5", "fixed:cutmix@0.5p0.5", "fixed:rmix@0.5+gradient")
FEW = ("compare.seeds=2", "compare.resamples=100", "device=cpu", "workers=1")


def npz(path: Path, n: int, classes: int, side: int = 32) -> list[str]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, side, side, 3), dtype=np.uint8)
    np.savez(path, images=images, labels=np.arange(n) % classes)
    return ["task.dataset=npz", f"task.root={path}"]


def folder(root: Path, classes: int, each: int, side: int) -> list[str]:
    rng = np.random.default_rng(0)
    for part, count in (("train", each), ("val", 1)):
        for name in range(classes):
            here = root / part / f"class{name}"
            here.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(here / f"{number}.png")
    return [f"task.root={root}"]


def played(tmp_path: Path, contestants: tuple[str, ...], words: list[str]) -> list[dict]:
    names = ",".join(contestants)
    settings = load_settings([*words, f"compare.contestants=[{names}]", *FEW])
    result = run_compare(settings, tmp_path / "run")
    assert {row["name"] for row in result["contestants"]} == set(contestants)
    trials = (tmp_path / "run" / "trials.jsonl").read_text("utf-8").splitlines()
    found = [json.loads(line) for line in trials]
    assert len(found) == 2 * len(contestants)
    assert not any(trial["diverged"] for trial in found)
    assert (tmp_path / "run" / "report" / "index.html").is_file()
    return found


def test_the_four_play_on_a_hundred_classes_of_32_pixels(tmp_path):
    """The protocol whole, but for the net and the number of epochs."""
    words = ["experiment=cifar100_rmix", *npz(tmp_path / "c.npz", 320, 100)]
    words += ["trainer.model=small_cnn_w8", "trainer.epochs=2", "task.val_size=100"]
    trials = played(tmp_path, ALL, [*words, "trainer.batch_size=10", "trainer.probe_size=20"])
    share = {t["contestant"]: np.mean(t["partner_share"]) for t in trials}
    assert share["none"] == 0
    # Half of the batches, and of those what clipping leaves of one half.
    assert 0 < share["fixed:cutmix@0.5p0.5"] < 0.3 < share["fixed:mixup@0.5"]
    passes = {t["contestant"]: t["backward_passes"] for t in trials}
    assert passes["fixed:rmix@0.5+gradient"] == 2 * passes["none"]


BIG = {
    "cifar100_rmix": ["trainer.model=preact_resnet18"],
    "cifar100_rmix_multistep": ["trainer.decay_milestones=[1]"],
    "cifar10_rmix": ["trainer.model=wide_resnet16_8"],
    "cifar100_deit": [],
}


@pytest.mark.slow
@pytest.mark.parametrize("experiment", BIG)
def test_an_experiment_of_32_pixels_plays_with_its_own_net(tmp_path, experiment):
    words = [f"experiment={experiment}", *BIG[experiment], *npz(tmp_path / "c.npz", 20, 4)]
    small = ["task.val_size=4", "trainer.batch_size=4", "trainer.epochs=2", "trainer.probe_size=4"]
    played(tmp_path, ALL, [*words, *small])


@pytest.mark.slow
@pytest.mark.parametrize("model", ["wide_resnet28_10", "resnext29_4x24d"])
def test_the_other_nets_play_too(tmp_path, model):
    words = ["experiment=cifar100_rmix", f"trainer.model={model}", *npz(tmp_path / "c.npz", 20, 4)]
    small = ["task.val_size=4", "trainer.batch_size=4", "trainer.epochs=1", "trainer.probe_size=4"]
    played(tmp_path, ALL[2:], [*words, *small])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "side"), [("tiny_imagenet_rmix", 64), ("imagenet_rmix", 224)]
)
def test_folders_of_larger_images_play(tmp_path, experiment, side):
    words = [f"experiment={experiment}", *folder(tmp_path / "images", 3, 3, side)]
    small = ["task.val_size=3", "trainer.batch_size=3", "trainer.epochs=1", "trainer.probe_size=3"]
    played(tmp_path, ALL[2:], [*words, *small])
