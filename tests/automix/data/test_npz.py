"""npz files: what is read exactly, and what is refused and how."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from automix.core.errors import ResourceError
from automix.data import DataSource, load, memory
from tests.automix.data.checks import picture, refused
from tests.cases import each

IMAGES = np.stack([picture(seed, (6, 5)) for seed in range(4)])
LABELS = np.array([7, -2, 7, 7])


def saved(path, **content):
    np.savez(path, **{"images": IMAGES, "labels": LABELS, **content})
    return path


def read(path, **settings):
    return load(DataSource(dataset="npz", root=str(path), **settings))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "xrays.npz"


def everything(images):
    return images.pixels.read(np.arange(len(images.labels)))


def test_grey_uint8_is_scaled_to_one_and_labels_are_numbered_in_order(path):
    images = read(saved(path))
    assert images.name == "xrays.npz"
    assert images.shape == (1, 6, 5)
    assert images.class_names == ("-2", "7")
    assert images.labels.tolist() == [1, 0, 1, 1]
    assert images.labels.dtype == np.int64
    assert images.test is None
    np.testing.assert_array_equal(everything(images)[:, 0], IMAGES.astype(np.float32) / 255)


def test_uint8_stays_uint8_in_memory(path):
    assert read(saved(path)).pixels.images.element_size() == 1


@each("kind", ["<f2", "<f4", ">f4", "<f8"])
def test_floats_keep_their_values(path, kind):
    values = np.linspace(0, 1, 4 * 6 * 5).reshape(4, 6, 5).astype(kind)
    pixels = everything(read(saved(path, images=values)))
    np.testing.assert_array_equal(pixels[:, 0], values.astype(np.float32))


@each(
    "shape, expected",
    [
        ((4, 6, 5, 3), (3, 6, 5)),
        ((4, 3, 6, 5), (3, 6, 5)),
        ((4, 6, 5, 1), (1, 6, 5)),
        ((4, 1, 6, 5), (1, 6, 5)),
        ((4, 4, 9, 3), (3, 4, 9)),
        ((4, 5, 8, 8), (5, 8, 8)),
    ],
)
def test_the_channel_axis_is_the_shorter_one(path, shape, expected):
    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    images = read(saved(path, images=values))
    first = values if shape[1:] == expected else values.transpose(0, 3, 1, 2)
    assert images.shape == expected
    np.testing.assert_array_equal(images.pixels.images, first)


def test_class_names_follow_the_sorted_labels(path):
    assert read(saved(path, class_names=["cat", "dog"])).class_names == ("cat", "dog")


@each("test", [[True, False, False, True], [3, 0]])
def test_the_test_part_may_be_a_mask_or_positions(path, test):
    assert read(saved(path, test=np.array(test))).test.tolist() == [0, 3]


@given(
    images=arrays.arrays(np.uint8, st.tuples(st.integers(2, 5), *[st.integers(1, 6)] * 2)),
    offset=st.integers(-(2**40), 2**40),
    compressed=st.booleans(),
)
def test_what_is_written_is_read(tmp_path_factory, images, offset, compressed):
    path = tmp_path_factory.mktemp("round") / "trip.npz"
    labels = np.arange(len(images)) % 2 * 3 + offset
    (np.savez_compressed if compressed else np.savez)(path, images=images, labels=labels)
    back = read(path)
    np.testing.assert_array_equal(back.pixels.images[:, 0], images)
    assert [back.class_names[label] for label in back.labels] == [str(label) for label in labels]


def test_a_missing_file_is_refused(path):
    with refused(str(path), "does not exist", hint="task.root"):
        read(path)


def test_a_folder_is_refused(tmp_path):
    with refused(str(tmp_path), "is a folder", hint="task.dataset=folder"):
        read(tmp_path)


@each("content", [b"", b"hello", b"\x80\x04N.", b"\x93NUMPY\x01\x00"])
def test_another_format_is_refused(path, content):
    path.write_bytes(content)
    with refused(str(path), "is not an npz file", hint="np.savez"):
        read(path)


@each("share", [0.3, 0.9])
def test_a_file_cut_off_is_refused(path, share):
    whole = saved(path).read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with refused(str(path), "cut off"):
        read(path)


def test_a_changed_byte_is_noticed(path):
    whole = bytearray(saved(path).read_bytes())
    whole[whole.index(IMAGES.tobytes())] ^= 1
    path.write_bytes(whole)
    with refused(str(path), "'images'", "damaged", "CRC"):
        read(path)


@each("content", [b"x" * 40, np.lib.format.MAGIC_PREFIX + b"\x01\x00\x08\x00junk"])
def test_a_member_that_is_no_array_is_refused(path, content):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("images.npy", content)
        file.writestr("labels.npy", content)
    with refused(str(path), "'images'", "damaged"):
        read(path)


@each("key", ["images", "labels"])
def test_a_missing_array_is_refused(path, key):
    content = {"images": IMAGES, "labels": LABELS, "y": LABELS}
    del content[key]
    np.savez(path, **content)
    with refused(str(path), f"no array '{key}'", "y", hint="np.savez"):
        read(path)


@each("key", ["images", "labels", "class_names", "test"])
def test_objects_are_refused_and_no_pickle_is_loaded(path, tmp_path, key):
    marker = tmp_path / "ran"

    class Hostile:
        def __reduce__(self):
            return marker.touch, ()

    saved(path, **{key: np.array([Hostile()] * 4, dtype=object)})
    with refused(str(path), f"'{key}'", "no pickle is ever loaded"):
        read(path)
    assert not marker.exists()


def two_of(value, kind):
    """Images of which two hold a value."""
    images = np.full((4, 6, 5), 0.5, kind)
    images[2, 3, 4] = images[3, 0, 0] = value
    return images


SHAPES = [(4,), (4, 30), (4, 6, 5, 3, 1), (4, 0, 5), (4, 6, 5, 0)]
KINDS = ["int64", "bool", "complex64", "<U3"]
VALUES = [(np.nan, "NaN", "nan_to_num"), (np.inf, "inf", "divide"), (1.5, "to 1.5", "divide")]
VALUES += [(-0.25, "-0.25", "divide")]
BAD_IMAGES = [
    *(
        (np.zeros(shape, np.uint8), ("'images'", str(shape), "(n, h, w, c)"), "")
        for shape in SHAPES
    ),
    # What reads both ways.
    (np.zeros((4, 3, 3, 3), np.uint8), ("(4, 3, 3, 3)", "(n, c, h, w)"), "(n, h, w)"),
    *(
        (np.zeros((4, 6, 5), kind), ("'images'", kind, "uint8 or floats"), "astype")
        for kind in KINDS
    ),
    *(
        (two_of(value, kind), ("2 of 4", "images[2]", "[0, 1]", said), hint)
        for kind in (np.float16, np.float64)
        for value, said, hint in VALUES
    ),
]


@each("images, said, hint", BAD_IMAGES)
def test_images_of_another_form_kind_or_range_are_refused(path, images, said, hint):
    with refused(str(path), "images", *said, hint=hint):
        read(saved(path, images=images))


NAMED = [
    *(("labels", np.eye(4)[0].astype(kind), (kind, "wanted ints")) for kind in ("float64", "bool")),
    ("labels", np.array(list("0101")), ("<U1", "wanted ints")),
    *(("labels", np.zeros(n, int), (str(n), "(4,)")) for n in [(3,), (5,), (4, 1), ()]),
    ("class_names", ["a"], ("(1,)", "(2,) strings")),
    ("class_names", ["a", "b", "c"], ("(3,)", "(2,) strings")),
    ("class_names", [["a", "b"]], ("(1, 2)", "(2,) strings")),
    ("class_names", [0, 1], ("int64", "(2,) strings")),
    ("class_names", ["a", "a"], ("'a' twice",)),
    ("test", [True, False], ("(2,)",)),
    ("test", [0.5], ("float64",)),
    ("test", [[0]], ("(1, 1)",)),
    ("test", [0, 4], ("position 4",)),
    ("test", [-1, 0], ("position -1",)),
    ("test", [1, 0, 0, 1], ("twice",)),
    ("test", [False] * 4, ("0 of 4",)),
    ("test", [0, 1, 2, 3], ("4 of 4",)),
]


@each("key, value, said", NAMED)
def test_labels_class_names_and_test_parts_that_do_not_fit_are_refused(path, key, value, said):
    with refused(str(path), f"'{key}'", *said):
        read(saved(path, **{key: np.array(value)}))


@each("n", [0, 1, 4])
def test_one_class_is_refused(path, n):
    with refused("xrays.npz", f"{n} images", "two classes"):
        read(saved(path, images=IMAGES[:n], labels=np.full(n, 3)))


def test_an_array_larger_than_the_memory_is_refused_before_it_is_read(path, monkeypatch):
    monkeypatch.setattr("automix.data.npz.free_memory", lambda: 100)
    with refused(str(path), "'images'", "GB", kind=ResourceError, hint="task.dataset=folder"):
        read(saved(path))


def test_free_memory_is_a_sensible_number():
    assert 10**7 < memory.free_memory() < 10**15
