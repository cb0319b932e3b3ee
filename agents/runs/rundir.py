"""A run's directory: where commands meet, and all that a run needs to go on."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import math
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import automix
from automix.agents.config.compose import settings_of
from automix.agents.config.settings import RunSettings
from automix.agents.parallel.machine import usable_cores
from automix.core.errors import ConfigError, DataError, ResourceError, check_encoding
from automix.core.files import (
    append_line,
    lock,
    read_json,
    read_yaml,
    refuse_special_files,
    write_json,
    write_text,
    write_yaml,
)
from automix.core.settings import differences
from automix.policy.policy import MixPolicy, save_policy

PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "gymnasium",
    "stable-baselines3",
    "numpy",
    "scipy",
    "scikit-learn",
    "torchmetrics",
    "hydra-core",
)
NEEDED_BYTES = 64 * 2**20
"""Free space asked for before a run starts; a default run writes a few megabytes."""

CONFIG, STATUS, BEGUN = "config.yaml", "status.json", "checkpoints/begun.json"
POLICY = "policy"
"""In a run directory: the policy that was given."""

FIRST_FILES = {
    *("checkpoints", BEGUN, CONFIG, "command.txt", "env.json"),
    *(POLICY, f"{POLICY}/policy.safetensors", f"{POLICY}/policy.json"),
}
"""What is written before the status, which makes a folder a run directory."""

log = logging.getLogger("automix")


class RunDirectory:
    """Writes the files of one run.

    Args:
        path: An existing directory made by ``create``.
        job: What the run does: ``train`` or ``compare``.
        spent_s: What earlier parts of the run took, as far as they could tell.
    """

    def __init__(self, path: Path, job: str = "train", spent_s: float = 0.0) -> None:
        self.path, self.job, self._spent_s = path, job, spent_s
        self._start = time.monotonic()

    @property
    def spent_s(self) -> float:
        """Seconds that the run has taken, without those of parts that were killed."""
        return self._spent_s + time.monotonic() - self._start

    @classmethod
    def create(
        cls,
        path: Path,
        settings: RunSettings,
        overwrite: bool,
        job: str = "train",
        policy: MixPolicy | None = None,
    ) -> RunDirectory:
        """Make the directory and write what is known before the start.

        Args:
            path: Where.
            settings: Of the run.
            overwrite: Replace the run that is there.
            job: ``train`` or ``compare``.
            policy: That is given, if any: the run needs nothing but its directory to go on.

        Raises:
            ConfigError: If it exists and may not be overwritten, or its name is not UTF-8.
            ResourceError: If it cannot be written to, or the disk is all but full.
        """
        path, taken = path.absolute(), False
        check_encoding(str(path))
        try:
            taken = path.exists() and not (path.is_dir() and not any(path.iterdir()))
            if taken and not _half_made(path):
                _refuse_unless_ours(path, overwrite)
            _refuse_full_disk(path)
            if taken:
                with cls(path).locked():
                    shutil.rmtree(path)
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ResourceError(
                f"{path} cannot be {'replaced' if taken else 'made'}: {error.strerror or error}",
                "choose a writable folder with --run-dir",
            ) from None
        directory = cls(path, job)
        content = plain(asdict(settings))
        write_json(path / BEGUN, content)
        write_yaml(path / CONFIG, content)
        write_text(path / "command.txt", command_line() + "\n")
        write_json(path / "env.json", describe_machine())
        if policy:
            save_policy(path / POLICY, policy)
        directory.status("running")  # last: it is what makes a folder a run directory
        return directory

    @classmethod
    def open(cls, path: Path) -> tuple[RunDirectory, RunSettings, str]:
        """Read the directory of a run that was begun; return its settings and its state too.

        Raises:
            ConfigError: If a setting was changed that results depend on.
            DataError: If it is no run directory, or is damaged.
        """
        path = path.absolute()
        if not (path / STATUS).is_file():
            raise DataError(
                f"{path} is no run directory: it has no {STATUS}",
                "give a folder that `train`, `compare` or `sweep` made",
            )
        status = read_json(path / STATUS)
        known = status if isinstance(status, dict) else {}
        job, state, spent = (known.get(name) for name in ("job", "state", "spent_s"))
        if job not in ("train", "compare") or not isinstance(state, str):
            raise DataError(
                f"{path / STATUS} does not tell job and state",
                "it is damaged or of another version: start again with --overwrite",
            )
        written = read_yaml(path / CONFIG)
        settings = settings_of(written, str(path / CONFIG))
        _refuse_changes(path, settings, written)
        spent_s = spent if isinstance(spent, float) and 0 <= spent < math.inf else 0.0
        return cls(path, job, spent_s), settings, state

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process from working on this run inside the block.

        Raises:
            ConfigError: If one does.
            ResourceError: If the directory cannot be written to.
        """
        file = self.path / "checkpoints" / "lock"
        refuse_special_files(self.path, file.parent)
        try:
            file.parent.mkdir(exist_ok=True)
            handle = file.open("a", encoding="utf-8")
        except OSError as error:
            raise ResourceError(
                f"{file} cannot be written: {error.strerror or error}",
                "the folder of a run that is to go on must be writable",
            ) from None
        with handle:
            if not lock(handle):
                pid = read_json(self.path / STATUS).get("pid")
                raise ConfigError(
                    f"process {pid} is working on {self.path}", "wait for it, or stop it first"
                )
            # The system lets go of it however this process ends.
            yield

    def status(self, state: str, **facts: Any) -> None:
        """Write ``status.json``."""
        content = {
            "state": state,
            "job": self.job,
            "pid": os.getpid(),
            **facts,
            "spent_s": round(self.spent_s, 1),
            "updated": time.time(),
        }
        write_json(self.path / STATUS, content)

    def append(self, name: str, record: Mapping[str, Any]) -> None:
        """Append one JSON line to a file of the run."""
        append_line(self.path / name, json.dumps(record, allow_nan=False))

    def write_lines(self, name: str, records: list[dict[str, Any]]) -> None:
        """Write a file of JSON lines at once."""
        lines = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)
        write_text(self.path / name, lines)


def announce(path: Path, next_command: str) -> None:
    """Say where the run is and what to do next: the first and the last line of a run."""
    log.info("run directory: %s", path.absolute())
    log.info("next: %s", next_command)


def default_path(settings: RunSettings, command: str) -> Path:
    """Return ``runs/<name>``; without a name, one from task, agent, seed and time."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    task = settings.task.dataset.replace("/", "-")
    doer = settings.agent.name if command == "train" else command
    return Path("runs") / (settings.name or f"{task}_{doer}_s{settings.seed}_{stamp}")


def plain(value: Any) -> Any:
    """Turn tuples into lists, all the way down, for YAML and JSON."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def command_line() -> str:
    """Return the command that started this process, ready to be typed again."""
    name = Path(sys.argv[0]).name
    program = f"python {name}" if name.endswith(".py") else name
    return " ".join([program, *(shlex.quote(word) for word in sys.argv[1:])])


@contextmanager
def called_as(words: Sequence[str]) -> Iterator[None]:
    """Stand in for the command ``run.py <words>``, of which ``command.txt`` is made."""
    before = sys.argv
    sys.argv = ["run.py", *words]
    try:
        yield
    finally:
        sys.argv = before


def describe_machine() -> dict[str, Any]:
    """Return versions and hardware."""
    return {
        "automix": automix.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cores": usable_cores(),
        "git": _git_commit(),
        "versions": {package: _version(package) for package in PACKAGES},
    }


def _refuse_full_disk(path: Path) -> None:
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if free < NEEDED_BYTES:
        raise ResourceError(
            f"{free // 2**20} MB are free on the disk of {path}, wanted {NEEDED_BYTES // 2**20}",
            "free some, or choose another disk with --run-dir",
        )


def _half_made(path: Path) -> bool:
    """Return whether a process was killed while it made this run directory."""
    if not path.is_dir():
        return False
    below = {str(entry.relative_to(path)) for entry in path.rglob("*")}
    # Names with a dot are of files that were being written.
    whole = {name for name in below if not Path(name).name.startswith(".")}
    return whole <= {"checkpoints"} or (BEGUN in whole and whole <= FIRST_FILES)


def _refuse_changes(path: Path, settings: RunSettings, written: Mapping[str, Any]) -> None:
    """Refuse settings that are not those that the run began with.

    Args:
        path: Of the run.
        settings: As ``written`` makes them.
        written: What ``config.yaml`` holds, where settings of other agents count too.
    """
    now = plain(asdict(settings))
    now["agent"] = dict(written.get("agent", {})) | now["agent"]
    changes = differences(settings, read_json(path / BEGUN), now)
    if changes:
        raise ConfigError(
            f"{path / CONFIG} was changed since the run began: {'; '.join(changes.values())}",
            "put it back, or start a run of its own",
        )


def _refuse_unless_ours(path: Path, overwrite: bool) -> None:
    if not overwrite:
        raise ConfigError(
            f"{path} exists",
            f"go on with it: python run.py resume {path}; replace it: --overwrite; or choose "
            "another name or --run-dir",
        )
    if not (path / "config.yaml").is_file() or not (path / "status.json").is_file():
        # Never remove a folder that is not ours, whatever was asked.
        raise ConfigError(
            f"{path} is no run directory (no config.yaml and status.json), so it is not replaced",
            "choose another --run-dir",
        )


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git_commit() -> str | None:
    """Return the commit of the source tree, marked if it was changed; None outside one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        commit, changes = (
            subprocess.run(
                ["git", "-C", str(root), *words], capture_output=True, text=True, check=True
            ).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+changes" if changes else "")
