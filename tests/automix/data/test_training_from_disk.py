"""Where the images lie changes nothing but the time: training gives the same bits."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from automix.data import memory
from automix.data.tasks import FamilySettings, TaskFamily, TaskSpec
from automix.mixing.actions import MixAction
from automix.training.batches import loader
from automix.training.population import Population, Trainer
from tests import tiny
from tests.automix.data.checks import picture, save_picture
from tests.cases import each

SPEC = TaskSpec(train_size=0, label_noise=0.1, seed=3)

ACTIONS = ["none", "cutmix@0.5", "rmix@0.5+spectral", "mixup@0.3+gradient"]


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    """Sixty 9x8 images (h x w): noise whose brightness tells the class."""
    root = tmp_path_factory.mktemp("pets")
    for i in range(60):
        pixels = picture(i, (9, 8, 3)) // 2 + (i % 3) * 40
        save_picture(root / "abc"[i % 3] / f"{i}.png", pixels.astype(np.uint8))
    return root


def task(root, limit_gb):
    family = FamilySettings(dataset="folder", root=str(root), memory_limit_gb=limit_gb)
    return TaskFamily(family).task(SPEC)


def training(task):
    """Train three members under four actions each; return records and weights."""
    population = Population([task] * 3, tiny.trainer_settings(batch_size=8))
    actions = [MixAction.parse(text) for text in ACTIONS]
    records = [population.reset([7] * 3)]
    turns = [[actions[(epoch + member) % 4] for member in range(3)] for epoch in range(4)]
    return population, records + [population.run_epoch(turn) for turn in turns]


@each("piece", [loader.PIECE, 10 * 4 * 9 * 8 * 3])
def test_training_from_disk_equals_training_in_memory_bit_for_bit(pets, piece, monkeypatch):
    monkeypatch.setattr(memory, "PIECE", piece)
    monkeypatch.setattr(loader, "PIECE", piece)
    (held, held_records), (read, read_records) = (training(task(pets, gb)) for gb in (1.0, 1e-9))
    assert held._data[0].train.resident is not None
    assert read._data[0].train.resident is None
    assert held_records == read_records
    for weights, others in zip(*(p.state_dict()["members"] for p in (held, read)), strict=True):
        for name, value in weights["classifier"].items():
            assert torch.equal(value, others["classifier"][name]), name


def test_a_set_in_memory_whose_floats_do_not_fit_trains_alike(pets):
    held = task(pets, 1.0)
    tight = dataclasses.replace(held, images=dataclasses.replace(held.images, memory_limit_gb=1e-9))
    population, records = training(tight)
    assert population._data[0].train.resident is None
    assert records == training(held)[1]


def test_an_epoch_from_disk_reads_batch_by_batch(pets, monkeypatch):
    monkeypatch.setattr(memory, "PIECE", 1)
    monkeypatch.setattr(loader, "PIECE", 1)
    from_disk = task(pets, 1e-9)
    trainer = Trainer(from_disk, tiny.trainer_settings(batch_size=8))
    trainer.reset(0)
    sizes = []
    read = type(from_disk.images.pixels).read
    monkeypatch.setattr(
        type(from_disk.images.pixels),
        "read",
        lambda pixels, index: sizes.append(len(index)) or read(pixels, index),
    )
    trainer.run_epoch(MixAction.parse("cutmix@0.5"))
    n = len(from_disk.train_index)
    assert sizes[: -(-n // 8)] == [8] * (n // 8) + [n % 8] * (n % 8 > 0)
