"""A run's directory: where commands meet."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import automix
from agents.settings import RunSettings
from automix.errors import ConfigError, ResourceError
from automix.files import append_line, write_json, write_text, write_yaml

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

log = logging.getLogger("automix")


class RunDirectory:
    """Writes the files of one run.

    Args:
        path: An existing directory made by ``create``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, settings: RunSettings, overwrite: bool) -> RunDirectory:
        """Make the directory and write what is known before the start.

        Raises:
            ConfigError: If it exists and may not be overwritten.
            ResourceError: If it cannot be written to, or the disk is all but full.
        """
        path, taken = path.absolute(), False
        try:
            taken = path.exists() and not (path.is_dir() and not any(path.iterdir()))
            if taken:
                _refuse_unless_ours(path, overwrite)
            _refuse_full_disk(path)
            if taken:
                shutil.rmtree(path)
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ResourceError(
                f"{path} cannot be {'replaced' if taken else 'made'}: {error.strerror or error}",
                "choose a writable folder with --run-dir",
            ) from None
        directory = cls(path)
        write_yaml(path / "config.yaml", plain(asdict(settings)))
        write_text(path / "command.txt", command_line() + "\n")
        write_json(path / "env.json", describe_machine())
        directory.status("running")
        return directory

    def status(self, state: str, **facts: Any) -> None:
        """Write ``status.json``."""
        content = {"state": state, "pid": os.getpid(), **facts, "updated": time.time()}
        write_json(self.path / "status.json", content)

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
    who = settings.agent.name if command == "train" else command
    return Path("runs") / (settings.name or f"{task}_{who}_s{settings.seed}_{stamp}")


def plain(value: Any) -> Any:
    """Turn tuples into lists, all the way down, for YAML and JSON."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def command_line() -> str:
    """Return the command that started this process, in words that run again."""
    name = Path(sys.argv[0]).name
    program = f"python {name}" if name.endswith(".py") else name
    return " ".join([program, *(shlex.quote(word) for word in sys.argv[1:])])


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


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _refuse_full_disk(path: Path) -> None:
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if free < NEEDED_BYTES:
        raise ResourceError(
            f"{free // 2**20} MB are free on the disk of {path}, wanted {NEEDED_BYTES // 2**20}",
            "free some, or choose another disk with --run-dir",
        )


def _refuse_unless_ours(path: Path, overwrite: bool) -> None:
    if not overwrite:
        raise ConfigError(
            f"{path} exists", "choose another name or --run-dir, or replace it with --overwrite"
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
    root = Path(__file__).resolve().parent.parent
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
