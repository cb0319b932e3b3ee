"""Checkpoints of a run: whole, checked, and no more of them than asked for.

A checkpoint is a folder ``step_<timesteps>`` of states, one safetensors file each, and a
``manifest.json`` that is written last and has the size and SHA-256 of each. The folder gets its
name when all of it is on the disk, so that what has the name was whole once.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import json
import logging
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import automix
from automix.agents.config.settings import CheckpointSettings, RunSettings
from automix.core.errors import ConfigError, DataError, ResourceError
from automix.core.files import read_json, short, write_text
from automix.core.settings import differences
from automix.core.snapshots import from_bytes, to_bytes

log = logging.getLogger("automix")

MANIFEST, LATEST = "manifest.json", "LATEST"
SUFFIX = ".safetensors"
FORMAT = 1
PACKAGES = ("torch", "numpy", "stable-baselines3", "sb3-contrib")
"""Whose versions a checkpoint names: with others the same arithmetic may round otherwise."""

_FOLDER = re.compile(r"step_(\d+)(?:_(\d+))?")
_FILE = re.compile(rf"[a-z][a-z_]*{re.escape(SUFFIX)}")
_TEMPORARY = ".writing."


@dataclass(frozen=True)
class Checkpoint:
    """What was read of a checkpoint, after all of it had been checked."""

    path: Path
    step: int
    settings: Mapping[str, Any]
    """Of the run that wrote it, as far as they shape it."""
    states: Mapping[str, Any]
    """By name."""


class SaveThrottle:
    """Says when the next save is due: when all of them, with it, are a small share of the time.

    The next one is taken to cost what the last one did. One that was slow is paid for by a longer
    wait, whatever the guess was.

    Args:
        share: The most of the time that saves may take, in [0, 1]; 0 never, 1 always.
        guess_s: What the first save is taken to cost; with 0 it is due at once.
        clock: Seconds.
    """

    def __init__(
        self, share: float, guess_s: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._share, self._clock = share, clock
        self._cost, self._spent, self._start = guess_s, 0.0, clock()

    def due(self) -> bool:
        """Return whether to save now."""
        worked = self._clock() - self._start - self._spent
        saving = self._spent + self._cost
        return self._share > 0 and saving * (1 - self._share) <= worked * self._share

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Measure what a save costs while the block does it."""
        start = self._clock()
        yield
        self.took(self._clock() - start)

    def took(self, seconds: float | None) -> None:
        """Count a save that was done just now, and what it cost, if that is known."""
        if seconds is not None:
            self._cost = seconds
        self._spent += self._cost


class Checkpoints:
    """Writes a run's checkpoints, throws old ones away, and finds the newest that is whole.

    Args:
        folder: Where they are; made with the first.
        settings: How often, and how many are kept.
        run_settings: Plain data that each checkpoint names as the settings that it belongs to.
        clock: Seconds.
    """

    def __init__(
        self,
        folder: Path,
        settings: CheckpointSettings,
        run_settings: Mapping[str, Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._settings, self._run_settings = folder, settings, run_settings
        self._throttle = SaveThrottle(settings.share, clock=clock)
        self._damaged: set[str] = set()

    def due(self) -> bool:
        """Return whether enough time has passed for another; at first, at once."""
        return self._throttle.due()

    def write(
        self, step: int, states: Callable[[], Mapping[str, Any]], score: float | None = None
    ) -> Path:
        """Write a checkpoint and throw away those that are too many.

        Args:
            step: Its number, which no later one undercuts.
            states: Collects the states by name; what that takes counts as the checkpoint's cost.
            score: Validation accuracy, if it is known yet; the best is kept.

        Raises:
            ResourceError: If the disk is full or cannot be written to; what was there stays.
        """
        with self._throttle.saving():
            files = {f"{name}{SUFFIX}": to_bytes(state) for name, state in states().items()}
            path = self._store(step, files, score)
            write_text(self._folder / LATEST, path.name + "\n")
            self._thin_out()
        return path

    def newest(self) -> Checkpoint | None:
        """Return the newest checkpoint that is whole, or None; leftovers of a kill are removed."""
        for leftover in self._folder.glob(f"{_TEMPORARY}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        for step, path in self._all():
            try:
                return _read(path, step)
            except DataError as error:
                self._damaged.add(path.name)
                log.warning("a checkpoint is damaged, the one before is used: %s", error)
        return None

    def _all(self) -> Iterator[tuple[int, Path]]:
        """Return steps and folders, the newest first."""
        found = [
            (int(named[1]), int(named[2] or 1), path)
            for path in self._folder.glob("step_*")
            if (named := _FOLDER.fullmatch(path.name))
        ]
        return ((step, path) for step, _, path in sorted(found, reverse=True))

    def _store(self, step: int, files: Mapping[str, bytes], score: float | None) -> Path:
        size = sum(map(len, files.values()))
        temporary = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(dir=self._folder, prefix=_TEMPORARY))
            temporary.chmod(0o755)
            for name, content in files.items():
                _write(temporary / name, content)
            manifest = json.dumps(self._manifest(step, files, score), indent=2, allow_nan=False)
            _write(temporary / MANIFEST, manifest.encode())
            _sync(temporary)
            path = self._free_name(step)
            temporary.rename(path)
            _sync(self._folder)
        except OSError as error:
            raise _cannot_write(self._folder, size, error) from error
        finally:
            if temporary:
                shutil.rmtree(temporary, ignore_errors=True)
        return path

    def _manifest(
        self, step: int, files: Mapping[str, bytes], score: float | None
    ) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "step": step,
            "score": score,
            "versions": _versions(),
            "settings": self._run_settings,
            "files": {
                name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
                for name, content in files.items()
            },
        }

    def _free_name(self, step: int) -> Path:
        """Return a folder that is not there yet: nothing is taken away before its successor is."""
        name, number = f"step_{step:09d}", 1
        while (path := self._folder / (name if number == 1 else f"{name}_{number}")).exists():
            number += 1
        return path

    def _thin_out(self) -> None:
        """Remove all but the last few and the best."""
        paths = [path for _, path in self._all()]
        whole = [path for path in paths if path.name not in self._damaged]
        kept = whole[: self._settings.keep]
        scores = {path: score for path in whole if (score := _score(path)) is not None}
        if scores:
            kept.append(max(scores, key=scores.__getitem__))
        for path in paths:
            if path not in kept:
                _remove(path)


def refuse_other_settings(
    checkpoint: Checkpoint,
    settings: Mapping[str, Any],
    may_change: Callable[[str], bool] | None = None,
) -> None:
    """Make sure that a checkpoint belongs to a run's settings.

    Args:
        checkpoint: What was read.
        settings: Of the run, in the form in which the checkpoint names them.
        may_change: Says of a dotted name whether its value may differ; none may without it.

    Raises:
        ConfigError: If any other value differs; the message lists all of them.
    """
    differing = differences(RunSettings, checkpoint.settings, settings, may_change)
    if differing:
        raise ConfigError(
            f"{checkpoint.path} belongs to other settings: {'; '.join(differing.values())}",
            "go on with the settings it was written with, or start another run",
        )


def _read(path: Path, step: int) -> Checkpoint:
    """Read a checkpoint whole.

    Raises:
        DataError: If anything in it is missing, is not what the manifest says, or is no state.
    """
    if not stat.S_ISDIR(_kind(path)):
        raise DataError(f"{path} is not a folder")
    manifest = _read_manifest(path)
    states = {
        name.removesuffix(SUFFIX): from_bytes(_content(path / name, known), str(path / name))
        for name, known in manifest["files"].items()
    }
    _warn_of_versions(path, manifest.get("versions"))
    return Checkpoint(path, step, manifest["settings"], states)


def _read_manifest(path: Path) -> dict[str, Any]:
    where = path / MANIFEST
    if not stat.S_ISREG(_kind(where)):
        raise DataError(f"{where} is not a plain file")
    manifest = read_json(where)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DataError(f"{where} is not a manifest of format {FORMAT}")
    for name in ("files", "settings"):
        if not isinstance(manifest.get(name), dict):
            raise DataError(f"{where}: {name} is {short(manifest.get(name))}, wanted names")
    for name, known in manifest["files"].items():
        # A name that is not one of ours could lead out of the folder.
        if not _FILE.fullmatch(name):
            raise DataError(f"{where}: files names {short(name)}, which is no state of ours")
        if not isinstance(known, dict) or {"bytes", "sha256"} - known.keys():
            raise DataError(f"{where}: files.{name} lacks bytes or sha256")
    return manifest


def _content(path: Path, known: Mapping[str, Any]) -> bytes:
    """Return a file's bytes, if they are those that were written."""
    if not stat.S_ISREG(_kind(path)):
        raise DataError(f"{path} is not a plain file")
    if (size := path.stat().st_size) != known["bytes"]:
        raise DataError(f"{path} has {size} bytes, {short(known['bytes'])} were written")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    if hashlib.sha256(content).hexdigest() != known["sha256"]:
        raise DataError(f"{path} is not what was written: its SHA-256 differs")
    return content


def _kind(path: Path) -> int:
    """Return the type of a file, without following a link."""
    try:
        return path.lstat().st_mode
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None


def _score(path: Path) -> float | None:
    try:
        score = _read_manifest(path).get("score")
    except DataError:
        return None
    return score if isinstance(score, float) else None


def _versions() -> dict[str, str]:
    packages = {package: importlib.metadata.version(package) for package in PACKAGES}
    return {"automix": automix.__version__} | packages


def _warn_of_versions(path: Path, then: Any) -> None:
    now = _versions()
    then = then if isinstance(then, dict) else {}
    changed = [f"{n} {short(then.get(n))}, now {now[n]}" for n in now if then.get(n) != now[n]]
    if changed:
        log.warning("%s was written with other versions: %s", path, "; ".join(changed))


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Make sure that a folder's names are on the disk, where the system lets one."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        with suppress(OSError):
            path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def _cannot_write(folder: Path, size: int, error: OSError) -> ResourceError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(there).free
        return ResourceError(
            f"no space left on the disk of {folder} for a checkpoint of {size} bytes, "
            f"{free} are free",
            "free some and resume; the last checkpoint is whole",
        )
    return ResourceError(
        f"{folder} cannot be written: {error.strerror or error}",
        "make it writable and resume; the last checkpoint is whole",
    )
