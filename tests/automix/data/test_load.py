"""The settings of a source, and how its name finds a loader."""

from __future__ import annotations

from automix.core.errors import ConfigError
from automix.data import DATASETS, DataSource, load
from tests.automix.data.checks import refused
from tests.cases import each


def test_the_loaders_are_those_that_the_docs_name():
    assert list(DATASETS) == [
        *("digits", "folder", "hfds", "idx", "letters", "npz", "patches", "textures", "torch")
    ]


def test_every_loader_says_what_it_reads():
    assert all(entry.summary.endswith(".") for entry in DATASETS.entries())


def test_digits_need_no_file():
    images = load(DataSource())
    assert (images.name, images.shape, len(images.labels)) == ("digits", (1, 8, 8), 1797)


@each(
    "name, meant",
    [("digit", "digits"), ("foldr", "folder"), ("torhc/cifar10", "torch"), ("letters/esy", "easy")],
)
def test_the_closest_name_is_offered(name, meant):
    with refused(f"Did you mean '{meant}'?", kind=ConfigError, hint="known: "):
        load(DataSource(dataset=name))


@each(
    "name, wanted",
    [("npz/x", "wanted npz"), ("torch", "torch/<name>"), ("letters", "letters/<name>")],
)
def test_a_name_with_a_part_too_many_or_too_few_is_refused(name, wanted):
    with refused(f"'{name}'", wanted, kind=ConfigError):
        load(DataSource(dataset=name))


@each("name, hint", [("folder", ""), ("npz", ""), ("torch/cifar10", "data")])
def test_files_without_a_root_are_refused(name, hint):
    with refused("task.root is empty", name, kind=ConfigError, hint=f"task.root={hint}"):
        load(DataSource(dataset=name))


@each("setting", ["image_size", "memory_limit_gb"])
@each("value", [-1, float("nan")])
def test_settings_out_of_range_are_refused(setting, value):
    with refused(f"task.{setting} is {value}", kind=ConfigError):
        DataSource(**{setting: value})


def test_which_folder_names_a_class_is_inner_or_outer():
    with refused("task.class_folder is 'leaf'", kind=ConfigError, hint="outer"):
        DataSource(class_folder="leaf")


@each(
    "name, setting",
    [("digits", "class_folder"), ("npz", "label_column"), ("folder", "image_column")],
)
def test_settings_of_other_loaders_are_refused(name, setting):
    with refused(f"task.{setting} is 'inner'", name, kind=ConfigError, hint="leave it out"):
        load(DataSource(dataset=name, **{setting: "inner"}))


@each("name", ["digits", "npz"])
def test_what_keeps_its_size_cannot_be_resized(name):
    with refused("task.image_size is 32", name, kind=ConfigError, hint="at 0"):
        load(DataSource(dataset=name, image_size=32))
