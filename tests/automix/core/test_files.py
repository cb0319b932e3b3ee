"""Files are whole or absent, and readers take nothing but data."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from automix.core import files
from automix.core.errors import DataError, ResourceError
from tests.cases import each


def everything_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def full_disk(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_what_was_not_finished_is_removed_and_nothing_else(tmp_path):
    """A process that is killed while it writes leaves its temporary file."""
    (tmp_path / "sub").mkdir()
    mine = [".hidden", "x.unfinished", "sub/.y.json"]
    for name in mine:
        (tmp_path / name).touch()

    def killed(temporary):
        (tmp_path / "sub" / temporary.name).touch()

    files.write_atomically(tmp_path / "x.json", killed)
    files.remove_unfinished(tmp_path)
    assert everything_in(tmp_path) == sorted(
        [".hidden", ".y.json", "sub", "x.json", "x.unfinished"]
    )


def test_leftovers_of_a_kill_go_with_the_next_write_and_nothing_else_does(
    tmp_path,
):
    """Of a name with a star in it too; a pipe under such a name is left alone."""
    others = {".y.json.k1.unfinished", ".x.json", "x.unfinished", ".x1.json.k.unfinished"}
    for name in (".x[*].json.k1.unfinished", ".x[*].json.k2.unfinished", *others):
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / ".x[*].json.pipe.unfinished")
    being_written = tmp_path / ".x[*].json.k3.unfinished"
    with being_written.open("w") as file:
        assert files.lock(file)
        files.write_json(tmp_path / "x[*].json", {})
        kept = {being_written.name, ".x[*].json.pipe.unfinished"}
        assert set(everything_in(tmp_path)) == {"x[*].json"} | others | kept


def test_what_is_written_can_be_read(tmp_path):
    value = {"a": [1, 2.5, None, "ä"], "b": {"c": True}}
    files.write_json(tmp_path / "x.json", value)
    files.write_yaml(tmp_path / "x.yaml", value, comment="two\nlines")
    assert files.read_json(tmp_path / "x.json") == value
    assert files.read_yaml(tmp_path / "x.yaml") == value
    text = (tmp_path / "x.yaml").read_text(encoding="utf-8")
    assert text.startswith("# two\n# lines\na:")
    assert everything_in(tmp_path) == ["x.json", "x.yaml"]


def test_folders_on_the_way_are_made_and_anybody_may_read(tmp_path):
    path = tmp_path / "a" / "b" / "x.txt"
    files.write_text(path, "new")
    assert path.read_text(encoding="utf-8") == "new"
    assert path.stat().st_mode & 0o777 == 0o644


def test_lines_are_appended(tmp_path):
    path = tmp_path / "x.jsonl"
    files.append_line(path, '{"a": 1}')
    files.append_line(path, '{"ü": 2}')
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == [
        {"a": 1},
        {"ü": 2},
    ]


@each("broken", ["write", "fsync", "replace"])
def test_a_disk_that_fills_up_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, broken):
    path = tmp_path / "x.txt"
    files.write_text(path, "old")
    target = {"write": (Path, "write_bytes"), "fsync": (os, "fsync"), "replace": (Path, "replace")}
    monkeypatch.setattr(*target[broken], full_disk)
    with pytest.raises(ResourceError, match=r"no space left on the disk of .*x.txt") as error:
        files.write_text(path, "new")
    monkeypatch.undo()
    assert error.value.exit_code == 4
    assert error.value.hint
    assert path.read_text(encoding="utf-8") == "old"
    assert everything_in(tmp_path) == ["x.txt"]


def test_a_writer_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "x.txt"
    files.write_text(path, "old")

    def half_written(temporary: Path) -> None:
        temporary.write_text("ne", encoding="utf-8")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write_atomically(path, half_written)
    assert path.read_text(encoding="utf-8") == "old"
    assert everything_in(tmp_path) == ["x.txt"]


def test_numbers_that_are_not_finite_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "x.json", {"a": float("nan")})
    assert everything_in(tmp_path) == []


@each("write", [files.write_text, files.append_line])
def test_a_place_that_cannot_be_written_to_is_named(tmp_path, write):
    """Below a regular file, where not even root can write."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ResourceError, match="file/x cannot be written") as error:
        write(tmp_path / "file" / "x", "text")
    assert "--run-dir" in error.value.hint


def test_a_full_disk_is_told_when_appending_too(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "open", full_disk)
    with pytest.raises(ResourceError, match="no space left on the disk"):
        files.append_line(tmp_path / "x", "text")


HOSTILE_YAML = {
    "a command": "!!python/object/apply:os.system ['touch {marker}']",
    "an object": "a: !!python/object:pathlib.Path {{}}",
    "a module": "!!python/module:os",
    "a cut-off list": "a: [1, 2",
    "a tab": "a:\n\t- b",
    "two documents": "a: 1\n---\nb: 2",
    "no such anchor": "a: *nowhere",
    "a date that is none": "a: 2001-99-99",
    "a stamp that is none": "a: !!timestamp soon",
    "a number that is none": "a: !!int many",
    "a truth that is none": "a: !!bool perhaps",
    "bytes": "a: \x00",
    "depth": "[" * 20_000,
    "a list of lists nine deep": "\n".join(
        ["a0: &a0 [0, 0, 0, 0, 0, 0, 0, 0, 0]"]
        + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    ).replace("{", "{{"),
    "tables that merge tables": "\n".join(
        ["a0: &a0 {{x: 0, y: 0, z: 0}}"]
        + [f"a{n}: &a{n} {{{{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}}}" for n in range(1, 9)]
    ),
    "one long text in a thousand places, a thousand times": (
        f"a: &a [{', '.join(['&t ' + 'x' * 1000] + ['*t'] * 999)}]\n"
        f"b: &b [{', '.join(['*a'] * 999)}]"
    ),
    "a chain of anchors": "a0: &a0 x\n"
    + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 200)),
    "a list that holds itself": "a: &a [*a]",
    "a table that holds itself": "&a {{b: *a}}",
    "a number in base 60 with a million places": "a: " + ":".join(["1"] * 10**6),
    "a long word": "a: " + "x" * (files.LONGEST + 1),
}


@each("text", HOSTILE_YAML.values())
def test_yaml_that_is_more_or_less_than_data_is_refused_by_name(tmp_path, text):
    marker, path = tmp_path / "marker", tmp_path / "x.yaml"
    path.write_text(text.format(marker=marker), encoding="utf-8")
    with pytest.raises(DataError, match=r"x.yaml is not plain YAML") as error:
        files.read_yaml(path)
    assert "\n" not in error.value.message
    assert error.value.exit_code == 3
    assert not marker.exists()


def test_what_is_written_once_may_be_used_often(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(f"a: &a [1, 2]\nb: [{', '.join(['*a'] * 1000)}]", encoding="utf-8")
    assert files.read_yaml(path)["b"] == [[1, 2]] * 1000


def test_yaml_has_no_more_nodes_than_the_bound_and_anchors_may_be_used(tmp_path, monkeypatch):
    path = tmp_path / "x.yaml"
    path.write_text("a: &a {b: 1}\nc: {<<: *a, d: *a}\n", encoding="utf-8")
    assert files.read_yaml(path) == {"a": {"b": 1}, "c": {"b": 1, "d": {"b": 1}}}
    for nodes, fits in (("x, " * 7, True), ("x, " * 12, False), ("[x, x], " * 3, True)):
        monkeypatch.setattr(files, "MOST_VALUES", 10)
        path.write_text(f"[{nodes}]", encoding="utf-8")
        if fits:
            files.read_yaml(path)
            continue
        with pytest.raises(DataError, match="more than 10 values"):
            files.read_yaml(path)


@each("text", ["", "{", "[1, 2", "{'a': 1}", "nul", "[" * 100_000])
def test_json_that_is_none_is_refused_by_name(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"x.json is not JSON"):
        files.read_json(path)


@each("read", [files.read_json, files.read_yaml])
def test_files_that_cannot_be_read_are_named(tmp_path, read):
    with pytest.raises(DataError, match=r"nothing.json does not exist"):
        read(tmp_path / "nothing.json")
    with pytest.raises(DataError, match=f"{tmp_path.name} cannot be read"):
        read(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "endless").symlink_to("/dev/zero")
    (tmp_path / "screen").symlink_to("/dev/tty")
    for name in ("fifo", "endless", "screen"):
        with pytest.raises(DataError, match=f"{name} cannot be read: it is a device, FIFO"):
            read(tmp_path / name)
    latin = tmp_path / "latin.json"
    latin.write_bytes(b'"\xe4"')
    with pytest.raises(DataError, match=r"latin.json cannot be read"):
        read(latin)


@each("read", [files.read_json, files.read_yaml, files.read_bytes])
def test_what_has_no_end_is_not_read(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "zero", "folder"):
        with pytest.raises(DataError, match=f"{name} cannot be read: it is"):
            read(tmp_path / name)


def test_a_folder_with_pipes_where_files_belong_is_refused(tmp_path):
    for name in ("notes", "a.json", "log.txt"):
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere")
    files.refuse_special_files(tmp_path, tmp_path / "sub", tmp_path / "nowhere")
    makes = (os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero"))
    for make, name in zip(makes, ("lock", "x.jsonl", "x.yaml"), strict=True):
        make(tmp_path / "sub" / name)
        with pytest.raises(DataError, match=f"sub/{name} is no plain file"):
            files.refuse_special_files(tmp_path, tmp_path / "sub")
        shutil.rmtree(tmp_path / "sub")
        (tmp_path / "sub").mkdir()


@each("read", [files.read_json, files.read_yaml])
def test_a_file_too_large_to_be_ours_is_not_read_at_all(tmp_path, read):
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(files.LARGEST + 1)  # sparse: it takes no room
    with pytest.raises(DataError, match=f"huge has {files.LARGEST + 1} bytes, more than"):
        read(path)
