"""Hugging Face sets: the package is optional, so a stand-in plays its part here."""

from __future__ import annotations

import importlib.util
import io
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from automix.core.errors import ConfigError, DataError, ResourceError
from automix.data import DataSource, load
from tests.automix.data.checks import picture, pixels_of, refused
from tests.cases import each

KINDS = {
    "Image": type("Image", (), {"__init__": lambda self, decode=True: None}),
    "ClassLabel": type("ClassLabel", (SimpleNamespace,), {}),
    "Value": type("Value", (SimpleNamespace,), {}),
}
"""Of columns, by the names that the package has for them."""


class Split:
    """A split, as far as it is used; others: further columns, name -> kind."""

    def __init__(self, seeds, labels, names, columns=("image", "label"), **others):
        self.files = []
        for seed in seeds:
            file = io.BytesIO()
            Image.fromarray(picture(seed)).save(file, "png")
            self.files.append(file.getvalue())
        self.image, self.label, self.labels = *columns, labels
        kind = KINDS["ClassLabel"](names=names) if names else KINDS["Value"]()
        made = {name: KINDS[kind]() for name, kind in others.items()}
        self.features = {self.image: KINDS["Image"](), self.label: kind, **made}

    def cast_column(self, name, kind):
        assert (name, type(kind).__name__) == (self.image, "Image")
        return self

    def __len__(self):
        return len(self.files)

    def __getitem__(self, at):
        if isinstance(at, str):
            return {self.label: self.labels}[at]
        return {self.image: {"bytes": self.files[at], "path": None}}


@pytest.fixture
def hub(monkeypatch):
    """A hub with one data set: split -> Split. ``asked`` logs (split, cache, offline)."""
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

    def load_dataset(name, *, cache_dir, split):
        assert name == "me/pets"
        offline = [module.HF_HUB_OFFLINE for n, module in modules.items() if "." in n]
        hub.asked.append((split, cache_dir, *offline))
        if split not in hub.splits:
            raise ValueError(f'Unknown split "{split}". Should be one of {list(hub.splits)}.')
        if isinstance(hub.splits[split], Exception):
            raise hub.splits[split]
        return hub.splits[split]

    modules["datasets"].load_dataset = load_dataset
    modules["datasets"].Image = KINDS["Image"]
    return hub


PETS = ["cat", "dog"]


def read(**settings):
    return load(DataSource(dataset="hfds/me/pets", **settings))


@each("memory_limit_gb", [1.0, 1e-9])
@each("split", ["test", "validation"])
def test_train_is_the_pool_and_test_or_validation_the_test_part(hub, split, memory_limit_gb):
    hub.splits = {"train": Split((0, 1, 2), [1, 0, 1], PETS), split: Split((3, 4), [0, 1], PETS)}
    images = read(memory_limit_gb=memory_limit_gb)
    assert images.name == "hfds/me/pets"
    assert images.shape == (3, 6, 5)
    assert images.class_names == ("cat", "dog")
    assert images.labels.tolist() == [1, 0, 1, 0, 1]
    assert images.test.tolist() == [3, 4]
    expected = np.stack([picture(seed) for seed in range(5)])
    np.testing.assert_allclose(pixels_of(images), expected, atol=1e-4)


def test_without_an_evaluation_split_the_set_is_one_pool(hub):
    hub.splits = {"train": Split((0, 1), [1, 0], PETS)}
    assert read().test is None


def test_a_split_without_labels_is_passed_over(hub):
    hub.splits = {
        "train": Split((0, 1), [1, 0], PETS),
        "test": Split((2, 3), [-1, -1], PETS),
        "validation": Split((4,), [1], PETS),
    }
    images = read()
    assert images.labels.tolist() == [1, 0, 1]
    np.testing.assert_allclose(pixels_of(images)[2], picture(4), atol=1e-4)
    assert images.origin.test == "the split validation"
    assert images.origin.left_out == ["2 images of split test, which has no labels"]


def test_plain_ints_are_numbered_in_order(hub):
    hub.splits = {"train": Split((0, 1, 2), [30, 4, 30], None), "test": Split((3,), [4], None)}
    images = read()
    assert images.class_names == ("4", "30")
    assert images.labels.tolist() == [1, 0, 1, 0]


@each("download", [False, True])
def test_the_network_is_off_unless_download_is_on(hub, download, tmp_path):
    hub.splits = {"train": Split((0, 1), [1, 0], PETS)}
    hub.asked.clear()
    read(root=str(tmp_path), download=download)
    assert {asked[1:] for asked in hub.asked} == {(str(tmp_path), not download, not download)}
    assert hub.config.HF_HUB_OFFLINE is False


def test_without_a_root_the_package_keeps_its_own_cache(hub):
    hub.splits = {"train": Split((0, 1), [1, 0], PETS)}
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
    with refused("hfds/me/pets", "'train'", "image", hint="a column of images"):
        read()


def test_a_set_without_the_split_train_is_refused(hub):
    hub.splits = {"test": Split((0, 1), [1, 0], PETS)}
    with refused("hfds/me/pets", "'train'", 'Unknown split "train"', hint="split train"):
        read()


def test_labels_that_are_no_ints_are_refused(hub):
    hub.splits = {"train": Split((0, 1), ["cat", "dog"], None)}
    with refused("hfds/me/pets", "'label'", "<U3", "wanted ints"):
        read()


def test_bad_images_are_named_by_number(hub):
    hub.splits = {"train": Split((0, 1, 2), [1, 0, 1], PETS)}
    hub.splits["train"].files[2] = b"no image"
    with refused("1 of 3", "hfds/me/pets, image 2", hint="task.skip_bad=true"):
        read()
    assert read(skip_bad=True).labels.tolist() == [1, 0]


def test_the_package_is_asked_for_if_it_is_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with refused("hfds/me/pets", "datasets", kind=ResourceError, hint="pip install datasets"):
        read()


@each(
    "columns, others, settings",
    [
        (("img", "label"), {}, {}),
        (("image", "fine_label"), {"id": "Value"}, {}),
        (("img", "labels"), {"mask_of": "Value"}, {}),
        (("image", "label"), {"mask": "Image", "breed": "ClassLabel"}, {}),
        (("img", "fine"), {"coarse": "ClassLabel"}, {"label_column": "fine"}),
        (("photo", "y"), {"mask": "Image"}, {"label_column": "y", "image_column": "photo"}),
    ],
)
def test_columns_are_found_by_their_kind_or_named(hub, columns, others, settings):
    hub.splits = {"train": Split((0, 1), [1, 0], PETS, columns, **others)}
    images = read(**settings)
    assert (images.class_names, images.labels.tolist()) == (("cat", "dog"), [1, 0])
    np.testing.assert_allclose(pixels_of(images)[1], picture(1), atol=1e-4)


@each(
    "names, columns, others, settings, says, hint",
    [
        (
            PETS,
            ("img", "fine"),
            {"coarse": "ClassLabel"},
            {},
            "no column 'label'",
            "label_column=fine",
        ),
        (PETS, ("a", "label"), {"b": "Image"}, {}, "no column 'image' of images", "image_column=a"),
        (None, ("image", "y"), {}, {}, "it has image (Image), y (Value)", "task.label_column=y"),
        (PETS, ("image", "fine"), {}, {"label_column": "fin"}, "'fin'", "task.label_column=fine"),
    ],
)
def test_columns_that_could_be_several_are_listed(
    hub, names, columns, others, settings, says, hint
):
    hub.splits = {"train": Split((0, 1), [1, 0], names, columns, **others)}
    with refused("hfds/me/pets", says, kind=ConfigError if settings else DataError, hint=hint):
        read(**settings)


def test_minus_one_is_no_class(hub):
    for names in (None, PETS):
        hub.splits = {"train": Split((0, 1, 2), [1, 0, -1], names)}
        with refused("hfds/me/pets", "-1"):
            read()


def test_a_turned_photograph_stands_upright(hub):
    hub.splits = {"train": Split((0, 1), [1, 0], PETS)}
    photograph, exif = io.BytesIO(), Image.Exif()
    exif[0x112] = 6
    Image.fromarray(np.rot90(picture(0)).copy()).save(photograph, "png", exif=exif)
    hub.splits["train"].files[0] = photograph.getvalue()
    np.testing.assert_allclose(pixels_of(read())[0], picture(0), atol=1e-4)
