"""npz files: what is read exactly, and what is refused and how."""

from __future__ import annotations

import os
import zipfile
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from automix.core.errors import DataError, ResourceError
from automix.data import DataSource, load, memory
from tests.automix.data.checks import picture, refused
from tests.cases import each, named

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


@each("kind", ["int64", "uint8", "bool", "float32"])
def test_one_column_and_one_of_k_are_labels_too(path, kind):
    numbers = np.array([2, 0, 2, 1])
    for labels in (numbers[:, None].astype("int64"), np.eye(3)[numbers].astype(kind)):
        images = read(saved(path, labels=labels))
        assert images.labels.tolist() == [2, 0, 2, 1]
        assert images.class_names == ("0", "1", "2")


@each(
    "keys, more",
    [
        *[(("X", "y"), {}), (("x", "y"), {}), (("data", "target"), {}), (("arr_0", "arr_1"), {})],
        (("x_train", "y_train"), {"x_test": IMAGES}),
        (("image", "label"), {"names": np.array(["a"])}),
    ],
)
def test_the_names_of_well_known_files_are_taken(path, keys, more):
    np.savez(path, **dict(zip(keys, (IMAGES, LABELS), strict=True)), **more)
    images = read(path)
    assert images.labels.tolist() == [1, 0, 1, 1]
    assert images.test is None
    assert images.origin.left_out == [f"1 other arrays ({name})" for name in more]


@each("names", ["{}_images {}_labels", "x_{} y_{}", "X_{} Y_{}"])
def test_the_test_part_of_well_known_files_is_the_test_part(path, names):
    parts = {
        name.format(part): array[:n]
        for part, n in (("train", 4), ("val", 1), ("test", 2))
        for name, array in zip(names.split(), (IMAGES, LABELS[:, None]), strict=True)
    }
    np.savez(path, **parts)
    images = read(path)
    assert images.labels.tolist() == [1, 0, 1, 1, 1, 0]
    assert images.test.tolist() == [4, 5]
    np.testing.assert_array_equal(images.pixels.images[4:, 0], IMAGES[:2])
    assert "test" in images.origin.test
    (left_out,) = images.origin.left_out
    assert "val" in left_out


@each(
    "keys",
    ["x y data labels", "arr_0 arr_1 arr_2 arr_3", "images y", "x_test y_test", "X labels", "x"],
)
def test_names_that_could_mean_several_things_are_refused(path, keys):
    np.savez(path, **dict.fromkeys(keys.split(), IMAGES))
    with refused(str(path), "no array", ", ".join(keys.split()), hint="np.load"):
        read(path)


def test_parts_of_two_forms_are_refused(path):
    for other in (IMAGES[:, :5], (IMAGES / 255).astype("f4")):
        np.savez(path, x_train=IMAGES, y_train=LABELS, x_test=other, y_test=LABELS)
        with refused(str(path), "one shape and type"):
            read(path)


def test_masks_that_are_all_but_black_are_told(path):
    assert "all but black" in read(saved(path, images=IMAGES % 2)).origin.warnings[0]


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
    assume(-1 not in labels)
    (np.savez_compressed if compressed else np.savez)(path, images=images, labels=labels)
    back = read(path)
    np.testing.assert_array_equal(back.pixels.images[:, 0], images)
    assert [back.class_names[label] for label in back.labels] == [str(label) for label in labels]


def test_a_missing_file_is_refused(path):
    for name in ("no.npz", "n" * 5000, "n\0.npz"):
        with refused(f"{path.parent}/{name}"[:100], "does not exist", hint="task.root"):
            read(f"{path.parent}/{name}")


def test_a_device_and_a_pipe_are_refused(path):
    os.mkfifo(path)
    for place in (path, "/dev/zero"):
        with refused(str(place), "no plain file"):
            read(place)


def test_a_file_that_may_not_be_read_is_refused(path, monkeypatch):
    def deny(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", deny)
    with refused(str(path), "Permission denied", kind=ResourceError):
        read(saved(path))


def test_a_pointer_of_git_lfs_is_named(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    with refused(str(path), "not an npz file", hint="git lfs pull"):
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


def header(text):
    """Return the beginning of an array with any header."""
    text = text.encode("latin1").ljust(117) + b"\n"
    return np.lib.format.MAGIC_PREFIX + bytes([1, 0, len(text) % 256, len(text) // 256]) + text


PLAIN = "{'descr': '|u1', 'fortran_order': False, 'shape': (4, 6, 5), }"
BROKEN = {
    "a kind of no name": header(PLAIN.replace("u1", "q9")),
    "a shape that is none": header(PLAIN.replace("(4, 6, 5)", "'x'")),
    "a negative shape": header(PLAIN.replace("4, 6", "-4, -6")),
    "more than follows": header(PLAIN.replace("4, 6", "4000000, 6000000")),
    "no dictionary": header("[1, 2]"),
    "no Python": header("{'descr': "),
    "a call": header("{'descr': print('ran'), 'fortran_order': False, 'shape': (4, 6, 5), }"),
    "a key too many": header(PLAIN.replace("}", "'x': 1}")),
    "depth": header("(" * 30_000),
    "a version to come": np.lib.format.MAGIC_PREFIX + b"\x09\x00" + b" " * 200,
    "no end": np.lib.format.MAGIC_PREFIX + b"\x01\x00\xff\xff{",
    "nothing": b"",
}


@each("name", BROKEN)
@each("key", ["images", "labels"])
def test_broken_arrays_are_refused(path, name, key, capfd):
    good = {"images": IMAGES, "labels": LABELS}
    with zipfile.ZipFile(path, "w") as file:
        for other, array in good.items():
            with file.open(f"{other}.npy", "w") as member:
                if other == key:
                    member.write(BROKEN[name] + IMAGES.tobytes() * (len(BROKEN[name]) > 0))
                else:
                    np.lib.format.write_array(member, array)
    with refused(str(path), f"'{key}'", "damaged"):
        read(path)
    assert not capfd.readouterr().out


def test_archives_that_cannot_be_unpacked_are_refused(path):
    whole = saved(path).read_bytes()
    directory = whole.index(b"PK\x01\x02")
    for where, value in (
        (8, 1),  # encrypted
        (10, 97),  # a compression of no name
        (10, 8),  # deflated, which it is not
        (42, 255),  # a member that begins elsewhere
        (24, 1),  # of another size
        (46, 200),  # of another name
    ):
        broken = bytearray(whole)
        broken[directory + where] = value
        if where == 8:
            broken[6] = value
        path.write_bytes(broken)
        with named(where, value), refused(str(path)):
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
    # Small squares of many channels, which would pass for long strips.
    *(
        (np.zeros(shape, np.uint8), (str(shape), "as well as"), "fewer channels")
        for shape in [(4, 9, 9, 200), (4, 3, 3, 4), (4, 200, 9, 9)]
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
    *(("labels", np.zeros(n, int), (str(n), "(4,)")) for n in [(3,), (5,), (5, 1), (4, 2), ()]),
    ("labels", np.array([0, 1, -1, -1]), ("-1", "2 of 4", "no class")),
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


@each(
    "kind, shape, copies", [("u1", (4, 6, 5), 2), ("u1", (4, 6, 5, 3), 2), ("f8", (4, 6, 5), 1.5)]
)
def test_the_copies_of_an_array_count_as_well(path, kind, shape, copies, monkeypatch):
    images = np.zeros(shape, kind)
    for free, fits in ((copies * images.nbytes - 1, False), (copies * images.nbytes, True)):
        monkeypatch.setattr("automix.data.npz.free_memory", lambda free=free: free)
        with nullcontext() if fits else refused("'images'", "GB", kind=ResourceError):
            read(saved(path, images=images))


def lines_of(path):
    """Return what a refusal says to do."""
    with pytest.raises(DataError) as caught:
        read(path)
    return caught.value.hint


@each(
    "change",
    [
        *[{"images": IMAGES.astype("u2") * 257}, {"images": IMAGES.astype("u2") * 16}],
        *[{"images": IMAGES.astype("i8")}, {"images": IMAGES.astype("i2") - 128}],
        *[{"images": IMAGES > 127}, {"labels": np.array(["b", "a", "b", "b"])}],
        *[{"labels": LABELS.astype("f4")}, {"labels": LABELS > 0}],
        {"labels": np.array([3, -1, 4, 3])},
    ],
)
def test_the_lines_of_a_refusal_make_a_right_file(path, change, monkeypatch):
    monkeypatch.chdir(path.parent)
    arrays = {"images": IMAGES, "labels": LABELS, **change}
    exec(lines_of(saved(path, **change)).partition("; or")[0], {"np": np, **arrays})
    images = read(path.with_name("new.npz"))
    assert images.num_classes == 2
    found = everything(images)[:, 0].numpy()
    given = arrays["images"][arrays["labels"] != -1]
    assert np.corrcoef(found.ravel(), given.ravel().astype(float))[0, 1] > 0.9999
    assert found.max() > 0.9


def test_free_memory_is_a_sensible_number():
    assert 10**7 < memory.free_memory() < 10**15
