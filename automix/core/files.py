"""Files that are whole or absent, and readers that take nothing but data."""

from __future__ import annotations

import errno
import json
import os
import reprlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import yaml

from automix.core.errors import DataError, ResourceError

LARGEST = 64 * 2**20
"""Bytes of a text file that is read at once; settings, schedules and results are far smaller."""

UNFINISHED = ".unfinished"
"""The names of files that are being written end so; they begin with a dot."""

NOT_VALUES = (ValueError, AttributeError, KeyError, RecursionError)
"""What PyYAML lets through for a date, number or truth value that is none, and for depth."""


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then put it in place.

    Raises:
        ResourceError: If the disk is full or the folder cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(UNFINISHED, f".{path.name}.", path.parent)
        os.close(descriptor)
    except OSError as error:
        raise _cannot_write(path, error) from error
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


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


def write_yaml(path: Path, value: Any, comment: str = "") -> None:
    """Write YAML atomically, with a comment on top."""
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    write_text(path, head + yaml.safe_dump(value, sort_keys=False, allow_unicode=True))


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        DataError: If the file is missing or is not JSON.
    """
    try:
        return json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}") from None


def read_yaml(path: Path) -> Any:
    """Read plain YAML: no tags, no code, no interpolation.

    Raises:
        DataError: If the file is missing or is not plain YAML.
    """
    try:
        return yaml.safe_load(_read_text(path))
    except (yaml.YAMLError, *NOT_VALUES) as error:
        raise DataError(f"{path} is not plain YAML: {str(error).splitlines()[0]}") from None


def short(value: Any) -> str:
    """Return what a value of a file looks like in a message: however large, the beginning of it."""
    plain = value is None or isinstance(value, (bool, int, float, str))
    return reprlib.repr(value) if plain else type(value).__name__


def append_line(path: Path, line: str) -> None:
    """Append one line and hand it to the operating system."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise _cannot_write(path, error) from error


def lock(file: TextIO) -> bool:
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


def _read_text(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise DataError(f"{path} has {size} bytes, more than the {LARGEST} that are read")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def _cannot_write(path: Path, error: OSError) -> ResourceError:
    if error.errno == errno.ENOSPC:
        return ResourceError(f"no space left on the disk of {path}", "free some and run again")
    return ResourceError(
        f"{path} cannot be written: {error.strerror or error}",
        "choose a writable folder with --run-dir",
    )
