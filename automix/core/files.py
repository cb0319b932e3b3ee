"""Files that are whole or absent, and readers that take nothing but data."""

from __future__ import annotations

import errno
import glob
import json
import os
import reprlib
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import IO, Any

import yaml

from automix.core.errors import DataError, ResourceError

LARGEST = 64 * 2**20
"""Bytes of a file that is read at once; settings, policies and results are far smaller."""

MOST_VALUES = 2**18
"""Values of a YAML file, those behind an alias counted wherever it stands; a long text is many."""

DEEPEST, LONGEST = 100, 2**16
"""Of a YAML file: nesting, and characters of one value."""

LOCKS = ("lock", ".lock")
"""Names of files that are only locked."""

UNFINISHED = ".unfinished"
"""The names of files that are being written end so; they begin with a dot."""

NOT_VALUES = (ValueError, AttributeError, KeyError, RecursionError)
"""What PyYAML lets through for a date, number or truth value that is none, and for depth."""


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then put it in place.

    What killed processes left of earlier attempts at this file is removed.

    Raises:
        ResourceError: If the disk is full or the folder cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        descriptor, name = tempfile.mkstemp(UNFINISHED, f".{path.name}.", path.parent)
    except OSError as error:
        raise _cannot_write(path, error) from error
    temporary = Path(name)
    try:
        with os.fdopen(descriptor) as held:
            lock(held)  # tells other processes that somebody is at work on it
            write(temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _remove_leftovers(path: Path) -> None:
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*{UNFINISHED}"):
        if leftover.is_file():
            with suppress(OSError), leftover.open() as file:
                if lock(file):
                    leftover.unlink()


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes left unfinished; no process may be writing now."""
    for path in folder.rglob(f".*{UNFINISHED}"):
        path.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    write_atomically(path, lambda temporary: _write(temporary, content))


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; numbers must be finite."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_yaml(path: Path, value: Any, comment: str = "", end: str = "") -> None:
    """Write YAML atomically, with a comment on top, and something at the end."""
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    write_text(path, head + yaml.safe_dump(value, sort_keys=False, allow_unicode=True) + end)


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        DataError: If the file is missing or is not JSON.
    """
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}") from None


def read_yaml(path: Path) -> Any:
    """Read plain YAML: no tags, no code, no interpolation, no more than ``MOST_VALUES``.

    Raises:
        DataError: If the file is missing or is not plain YAML.
    """
    try:
        return _BoundedLoader(read_text(path)).get_single_data()
    except (yaml.YAMLError, *NOT_VALUES) as error:
        raise DataError(f"{path} is not plain YAML: {str(error).splitlines()[0]}") from None


class _BoundedLoader(yaml.SafeLoader):
    """Refuses what would be too large once anchors were expanded, before any of it is."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._composed = 0
        self._extents: dict[int, tuple[int, int]] = {}
        """Of nodes, by ``id``: how many there are in it, and how deep."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        node = super().compose_node(parent, index)
        if node is None:
            return node
        self._composed += 1
        if node.end_mark is None:  # not all of it has been read
            raise yaml.composer.ComposerError(None, None, "an anchor that holds itself")
        below = [self._extents[id(child)] for child in _children(node)]
        text = node.value if isinstance(node, yaml.ScalarNode) else ""
        size = 1 + len(text) // 1000 + sum(size for size, _ in below)
        depth = 1 + max((depth for _, depth in below), default=0)
        self._extents[id(node)] = size, depth
        for what, count, most in (
            ("values", max(size, self._composed), MOST_VALUES),
            ("levels", depth, DEEPEST),
            ("characters in one value", len(text), LONGEST),
        ):
            if count > most:
                raise yaml.composer.ComposerError(None, None, f"it holds more than {most} {what}")
        return node


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return list(chain.from_iterable(node.value))
    return node.value if isinstance(node, yaml.SequenceNode) else []


def short(value: Any) -> str:
    """Return what a value of a file looks like in a message: however large, the beginning of it."""
    plain = value is None or isinstance(value, (bool, int, float, str))
    return reprlib.repr(value) if plain else type(value).__name__


def refuse_special_files(*folders: Path) -> None:
    """Refuse folders in which a file that is to be appended to is no plain one.

    Raises:
        DataError: If a pipe, a device or a folder has the name of such a file.
    """
    for path in chain.from_iterable(folder.iterdir() for folder in folders if folder.is_dir()):
        file = path.suffix in (".json", ".jsonl", ".txt", ".yaml") or path.name in LOCKS
        if file and path.exists() and not path.is_file():
            raise DataError(f"{path} is no plain file", "remove it: no command made it")


def append_line(path: Path, line: str) -> None:
    """Append one line and hand it to the operating system."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise _cannot_write(path, error) from error


def lock(file: IO[Any]) -> bool:
    """Take the lock of an open file; return whether no other process holds it.

    The system takes it back from a process that ends, however it ends.
    """
    try:
        import fcntl
    except ImportError:  # Windows has none: two processes on one file are then up to the user
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def read_bytes(path: Path, most: float = LARGEST) -> bytes:
    """Read a plain file of at most so many bytes.

    Raises:
        DataError: If it is missing, too large, or no plain file: a device has no end, and a FIFO
            lets its reader wait for ever.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a device, FIFO or socket"
            raise DataError(f"{path} cannot be read: it is {kind}, wanted a plain file")
        if found.st_size > most:
            raise DataError(f"{path} has {found.st_size} bytes, more than the {most} that are read")
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:  # ValueError: a path that no system has
        raise DataError(f"{path} cannot be read: {error}") from None


def read_text(path: Path) -> str:
    """Read a text file; errors as of ``read_bytes``."""
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def _cannot_write(path: Path, error: OSError) -> ResourceError:
    if error.errno == errno.ENOSPC:
        return ResourceError(f"no space left on the disk of {path}", "free some and run again")
    return ResourceError(
        f"{path} cannot be written: {error.strerror or error}",
        "choose a writable folder with --run-dir",
    )
