"""timm's loaders, and its train.py where it is at hand, with the drop-ins for its Mixup."""

from __future__ import annotations

import os
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import timm.data
import timm.loss
import torch
from PIL import Image
from torch import Tensor
from torch.testing import assert_close
from torch.utils.data import Dataset

from automix import load_schedule
from automix.core.errors import ConfigError
from automix.integrations.timm import FastCollateMixup, Mixup
from tests.automix.integrations.seen import (
    COUNT,
    IMAGES,
    LABELS,
    SIDE,
    Shares,
    by_epoch,
    mixer_of,
    shares,
    wanted,
)
from tests.cases import each

PAGE = Path(__file__).parents[3] / "docs" / "trainers" / "timm.md"
TRAIN = os.environ.get("AUTOMIX_TIMM_TRAIN", "")
"""Path of timm's train.py, which is in its repository and not in its wheel."""

pictures = [Image.fromarray((image * 255).byte().numpy()).convert("RGB") for image in IMAGES[:, 0]]


class Digits(Dataset):
    """As timm's loaders want it: they set the transform."""

    transform = None

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, at: int) -> tuple[np.ndarray, int]:
        return self.transform(pictures[at]), at


def loader_of(size: int, prefetcher: bool, context: str | None = None, **given):
    loader = timm.data.create_loader(
        Digits(),
        (3, SIDE, SIDE),
        size,
        is_training=True,
        no_aug=True,
        use_prefetcher=prefetcher,
        device=torch.device("cpu"),
        **{"num_workers": 0} | given,
    )
    (loader.loader if prefetcher else loader).multiprocessing_context = context
    return loader


def seen(loader, mixup: Mixup, call: bool, epochs: int = 2) -> Shares:
    found = []
    for epoch in range(epochs):
        mixup.set_epoch(epoch)
        batches = (mixup(*batch) if call else batch for batch in loader)
        found.append(shares(targets for _, targets in batches))
    return found


WORKERS = (
    {"num_workers": 0},
    *({"num_workers": 2, "persistent_workers": persistent} for persistent in (False, True)),
)


@each("size", [6, 5])
def test_mixup_shows_the_net_what_the_schedule_says(size):
    mixup = Mixup(mixer_of(label_smoothing=0.1))
    found = seen(loader_of(size, prefetcher=False), mixup, call=True)
    assert found == wanted(mixer_of(label_smoothing=0.1), size)
    assert set(found[0]) == {round(0.9 + 0.1 / COUNT, 5)}
    assert min(found[1]) < 0.8


@each("workers", WORKERS)
def test_collating_shows_the_net_what_the_schedule_says(workers):
    for size in (6, 5):
        mixup = FastCollateMixup(mixer_of())
        loader = loader_of(size, prefetcher=True, collate_fn=mixup, **workers)
        found = seen(loader, mixup, call=False)
        assert found == wanted(mixer_of(), size, **workers)
        assert set(found[0]) == {1.0}
        assert min(found[1]) < 0.9


@pytest.mark.slow
@pytest.mark.parametrize("persistent", [False, True])
def test_spawned_workers_show_it_too(persistent):
    mixup, workers = FastCollateMixup(mixer_of()), {**WORKERS[1], "persistent_workers": persistent}
    loader = loader_of(6, prefetcher=True, context="spawn", collate_fn=mixup, **workers)
    assert seen(loader, mixup, call=False) == wanted(mixer_of(), **workers)


@each("persistent", [False, True])
def test_timm_turns_it_off_by_its_own_names(persistent):
    """As train.py does at mixup_off_epoch: at the loader, which asks isinstance, or at Mixup."""
    collate = FastCollateMixup(mixer_of("mixup@0.25"))
    workers = {"num_workers": 1, "persistent_workers": persistent}
    loader = loader_of(6, prefetcher=True, collate_fn=collate, **workers)
    assert min(seen(loader, collate, call=False, epochs=1)[0]) < 1
    assert loader.mixup_enabled
    loader.mixup_enabled = False
    assert set(seen(loader, collate, call=False, epochs=1)[0]) == {1.0}

    mixup = Mixup(mixer_of("mixup@0.25"))
    assert isinstance(mixup, timm.data.Mixup)
    mixup.set_epoch(0)
    mixup.mixup_enabled = False
    assert mixup(IMAGES, LABELS)[0] is IMAGES


def test_collated_pixels_are_those_that_the_mixer_makes_of_them():
    pixels = (IMAGES[:4] * 255).byte()
    for form in (lambda image: image, lambda image: image.numpy()):
        collate, mixer = FastCollateMixup(mixer_of("mixup@0.25")), mixer_of("mixup@0.25")
        collate.set_epoch(0)
        mixer.set_epoch(0)
        got, targets = collate([(form(image), at) for at, image in enumerate(pixels)])
        mixed, wanted_targets = mixer(pixels, LABELS[:4])
        assert torch.equal(got, mixed)
        assert_close(targets, wanted_targets)


def test_a_mixer_that_will_want_the_net_is_refused_before_the_training():
    with pytest.raises(ConfigError, match="wants: classifier, which timm does not give"):
        FastCollateMixup(mixer_of("none", "rmix@0.5+gradient"))


# Its own train.py --------------------------------------------------------------------------------


def patched(script: str) -> str:
    """Apply the page's diff: each hunk's lines, told from the others by dots, occur once."""
    (diff,) = re.findall(r"^```diff\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    for hunk in diff.split("...\n"):
        old, new = (
            "".join(f"{line[1:]}\n" for line in hunk.splitlines() if line[0] in kept)
            for kept in (" -", " +")
        )
        assert script.count(old) == 1, old
        script = script.replace(old, new)
    return script


def test_train_py_needs_at_most_five_changed_lines():
    (diff,) = re.findall(r"^```diff\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert 0 < len(re.findall(r"^\+", diff, re.MULTILINE)) <= 5


RUNS = {
    "": {},
    "--workers 2": {"num_workers": 2, "persistent_workers": True},
    "--no-prefetcher --workers 2": {},
    "--no-prefetcher --model-ema --grad-accum-steps 2": {},
    "--grad-accum-steps 3 --amp --amp-dtype bfloat16": {},
}
"""Options, and the workers that mix."""


@pytest.mark.integrations
@pytest.mark.skipif(not TRAIN, reason="AUTOMIX_TIMM_TRAIN does not name timm's train.py")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", RUNS)
def test_its_train_py_shows_the_net_what_the_schedule_says(options, tmp_path, monkeypatch):
    for split in ("train", "validation"):
        for label, picture in enumerate(pictures):
            (tmp_path / split / f"{label:02d}").mkdir(parents=True)
            picture.save(tmp_path / split / f"{label:02d}" / "digit.png")
    targets: list[Tensor] = []
    forward = timm.loss.SoftTargetCrossEntropy.forward

    def watched(loss, logits, target):
        targets.append(target)
        return forward(loss, logits, target)

    monkeypatch.setattr(timm.loss.SoftTargetCrossEntropy, "forward", watched)
    words = (
        f"--data-dir {tmp_path} --output {tmp_path} --model test_resnet --num-classes {COUNT} "
        f"--img-size {SIDE} --batch-size 6 --epochs 2 --warmup-epochs 0 --no-aug --device cpu "
        f"--workers 0 {options}"
    )
    script = tmp_path / "train.py"
    script.write_text(patched(Path(TRAIN).read_text()))
    monkeypatch.setattr(sys, "argv", [str(script), *words.split()])
    runpy.run_path(str(script), run_name="__main__")
    mixer = load_schedule("digits_full").mixer(COUNT, epochs=2, label_smoothing=0.1)
    assert by_epoch(targets) == wanted(mixer, **RUNS[options])
    assert by_epoch(targets)[0] != by_epoch(targets)[1]
