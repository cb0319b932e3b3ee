"""Hugging Face sets: the package is optional, so a stand-in plays its part here."""

from __future__ import annotations

import importlib.util
import io
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from automix.core.errors import ResourceError
from automix.data import DataSource, load, timm_hfds
from tests.automix.data.checks import picture, pixels_of, refused
from tests.cases import each


class Reader:
    """timm's reader, as far as it is used."""

    label_key = "label"

    def __init__(self, seeds, labels, class_to_idx):
        self.files = []
        for seed in seeds:
            file = io.BytesIO()
            Image.fromarray(picture(seed)).save(file, "png")
            self.files.append(file.getvalue())
        self.dataset = {"label": labels}
        self.class_to_idx = class_to_idx

    def __getitem__(self, number):
        return io.BytesIO(self.files[number]), self.dataset["label"][number]

    def filename(self, number):
        return None


@pytest.fixture
def hub(monkeypatch):
    """A hub with one data set: split -> Reader. ``asked`` logs (split, cache, offline)."""
    modules = {
        name: ModuleType(name)
        for name in ("datasets", "datasets.config", "huggingface_hub", "huggingface_hub.constants")
    }
    for name, module in modules.items():
        module.__spec__ = importlib.util.spec_from_loader(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    for name in ("datasets.config", "huggingface_hub.constants"):
        modules[name].HF_HUB_OFFLINE = False
    hub = SimpleNamespace(splits={}, asked=[], config=modules["datasets.config"])

    def create_dataset(name, *, root, split):
        assert name == "hfds/me/pets"
        offline = [module.HF_HUB_OFFLINE for n, module in modules.items() if "." in n]
        hub.asked.append((split, root, *offline))
        if split not in hub.splits:
            raise ValueError(f'Unknown split "{split}". Should be one of {list(hub.splits)}.')
        if isinstance(hub.splits[split], Exception):
            raise hub.splits[split]
        return SimpleNamespace(reader=hub.splits[split])

    monkeypatch.setattr(timm_hfds, "create_dataset", create_dataset)
    return hub


PETS = {"dog": 1, "cat": 0}


def read(**settings):
    return load(DataSource(dataset="hfds/me/pets", **settings))


@each("memory_limit_gb", [1.0, 1e-9])
@each("split", ["test", "validation"])
def test_train_is_the_pool_and_test_or_validation_the_test_part(hub, split, memory_limit_gb):
    hub.splits = {"train": Reader((0, 1, 2), [1, 0, 1], PETS), split: Reader((3, 4), [0, 1], PETS)}
    images = read(memory_limit_gb=memory_limit_gb)
    assert images.name == "hfds/me/pets"
    assert images.shape == (3, 6, 5)
    assert images.class_names == ("cat", "dog")
    assert images.labels.tolist() == [1, 0, 1, 0, 1]
    assert images.test.tolist() == [3, 4]
    expected = np.stack([picture(seed) for seed in range(5)])
    np.testing.assert_allclose(pixels_of(images), expected, atol=1e-4)


def test_without_an_evaluation_split_the_set_is_one_pool(hub):
    hub.splits = {"train": Reader((0, 1), [1, 0], PETS)}
    assert read().test is None


def test_a_split_without_labels_is_passed_over(hub):
    hub.splits = {
        "train": Reader((0, 1), [1, 0], PETS),
        "test": Reader((2, 3), [-1, -1], PETS),
        "validation": Reader((4,), [1], PETS),
    }
    images = read()
    assert images.labels.tolist() == [1, 0, 1]
    np.testing.assert_allclose(pixels_of(images)[2], picture(4), atol=1e-4)


def test_plain_ints_are_numbered_in_order(hub):
    hub.splits = {"train": Reader((0, 1, 2), [30, 4, 30], {}), "test": Reader((3,), [4], {})}
    images = read()
    assert images.class_names == ("4", "30")
    assert images.labels.tolist() == [1, 0, 1, 0]


@each("download", [False, True])
def test_the_network_is_off_unless_download_is_on(hub, download, tmp_path):
    hub.splits = {"train": Reader((0, 1), [1, 0], PETS)}
    hub.asked.clear()
    read(root=str(tmp_path), download=download)
    assert {asked[1:] for asked in hub.asked} == {(str(tmp_path), not download, not download)}
    assert hub.config.HF_HUB_OFFLINE is False


def test_without_a_root_the_package_keeps_its_own_cache(hub):
    hub.splits = {"train": Reader((0, 1), [1, 0], PETS)}
    read()
    assert hub.asked[0][1] is None


def test_a_set_that_is_not_there_says_how_to_fetch_it_and_where_it_goes(hub, tmp_path):
    hub.splits = {"train": ConnectionError("Couldn't reach 'me/pets'\non the Hub")}
    with refused(
        "hfds/me/pets: not found in",
        str(tmp_path),
        "Couldn't reach",
        hint=f"task.download=true fetches it and writes it to {tmp_path}",
    ):
        read(root=str(tmp_path))


def test_a_download_that_fails_is_a_matter_of_the_machine(hub, tmp_path):
    hub.splits = {"train": ConnectionError("no route to host")}
    with refused("could not be fetched", str(tmp_path), "no route", kind=ResourceError):
        read(root=str(tmp_path), download=True)


@each("error", [KeyError("image"), ValueError("no column image")])
def test_a_set_of_another_form_is_refused(hub, error):
    hub.splits = {"train": error}
    with refused("hfds/me/pets", "'train'", "image", hint="columns image and label"):
        read()


def test_a_set_without_the_split_train_is_refused(hub):
    hub.splits = {"test": Reader((0, 1), [1, 0], PETS)}
    with refused("hfds/me/pets", "'train'", 'Unknown split "train"', hint="split train"):
        read()


def test_labels_that_are_no_ints_are_refused(hub):
    hub.splits = {"train": Reader((0, 1), ["cat", "dog"], {})}
    with refused("hfds/me/pets", "'label'", "<U3", "wanted ints"):
        read()


def test_bad_images_are_named_by_number(hub):
    hub.splits = {"train": Reader((0, 1, 2), [1, 0, 1], PETS)}
    hub.splits["train"].files[2] = b"no image"
    with refused("1 of 3", "hfds/me/pets, image 2", hint="task.skip_bad=true"):
        read()
    assert read(skip_bad=True).labels.tolist() == [1, 0]


def test_the_package_is_asked_for_if_it_is_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with refused("hfds/me/pets", "datasets", kind=ResourceError, hint="pip install datasets"):
        read()
