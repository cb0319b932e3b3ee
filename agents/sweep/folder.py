"""A sweep's directory: its files, its trials' directories, and one driver at a time."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from automix.agents.runs.rundir import RunDirectory, command_line
from automix.agents.sweep.ledger import Ledger
from automix.agents.sweep.planning.plan import SweepPlan, described
from automix.agents.sweep.settings import SweepSettings
from automix.core.errors import AutomixError, ConfigError, DataError, ResourceError
from automix.core.files import (
    lock,
    read_json,
    read_yaml,
    refuse_special_files,
    write_text,
    write_yaml,
)
from automix.core.settings import names_that_affect

log = logging.getLogger("automix")

LOCK = ".lock"
"""Held by the process that drives the sweep; goes with it."""

SUMMARY, RESULT, SCHEDULE, WINNER, BEST = (
    *("summary.csv", "result.json", "schedule.jsonl", "best.yaml", "best"),
)
"""In a sweep's directory; all but the first in that of a search: what came out, how the winner
learned, the command that makes it again, and its run."""

FIGURES = ("val_accuracy", "test_accuracy", "test_ece", "epochs_spent")
"""Of the agent in a trial, means over its compared training runs; the last is what learning and
playing cost in classifier epochs."""


def figures_of(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of the contestant ``agent`` in a ``result.json``."""
    row = next(row for row in result["contestants"] if row["name"] == "agent")
    names = ("val_accuracy", "mean", "ece", "epochs_spent")
    return {figure: row[name] for figure, name in zip(FIGURES, names, strict=True)}


class SweepDirectory:
    """Knows where everything of a sweep is.

    Args:
        path: Absolute; made by ``open_sweep``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ledger = Ledger(path / "ledger.jsonl")

    def trial(self, name: str) -> Path:
        """Return a trial's run directory."""
        return self.path / "trials" / name

    def attempts(self, name: str) -> Path:
        """Return the file that a trial's processes write a line to as they start."""
        return self.path / "attempts" / f"{name}.jsonl"

    def status(self, state: str, **facts: Any) -> None:
        """Write ``status.json``."""
        RunDirectory(self.path, "sweep").status(state, **facts)

    def broken_off(self, error: BaseException, **facts: Any) -> None:
        """Note that the sweep ends by an error, and say how to go on."""
        interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
        self.status("interrupted" if interrupted else "failed", error=str(error), **facts)
        log.info("next: python run.py resume %s", self.path)

    def figures(self, name: str) -> dict[str, float] | None:
        """Return the figures of a trial; None if it has not finished."""
        folder = self.trial(name)
        try:
            finished = read_json(folder / "status.json")["state"] == "finished"
            return figures_of(read_json(folder / "result.json")) if finished else None
        except (DataError, KeyError, TypeError, ValueError, StopIteration):
            return None  # then it runs, and says itself what is wrong


@contextmanager
def open_sweep(path: Path, plan: SweepPlan, overwrite: bool) -> Iterator[SweepDirectory]:
    """Make a sweep's directory or go on in it, and keep other drivers out for the while.

    Raises:
        ConfigError: If the folder is something else, or another process drives this sweep.
        ResourceError: If it cannot be written to.
    """
    _refuse_unless_ours(path)
    refuse_special_files(path)
    if not overwrite:
        _refuse_another(path, plan)
    try:
        path.mkdir(parents=True, exist_ok=True)
        held = (path / LOCK).open("a", encoding="utf-8")
    except OSError as error:
        raise _cannot_make(path, error) from None
    directory = SweepDirectory(path)
    with held:
        if not lock(held):
            raise ConfigError(
                f"another process runs the sweep in {path}", "wait for it, or stop it with Ctrl-C"
            )
        if overwrite:
            _empty(path)
        directory.ledger.mend()
        write_text(path / "command.txt", command_line() + "\n")
        write_yaml(path / "sweep.yaml", described(plan))
        directory.status("running")
        known = directory.ledger.last()
        for trial in plan.trials:
            if trial.hash not in known:
                directory.ledger.write("planned", trial.hash, words=list(trial.overrides))
        yield directory


def _empty(path: Path) -> None:
    """Remove all but the lock, which is held."""
    try:
        for item in path.iterdir():
            if item.is_dir() and not item.is_symlink():
                shutil.rmtree(item)
            elif item.name != LOCK:
                item.unlink()
    except OSError as error:
        raise _cannot_make(path, error) from None


def _cannot_make(path: Path, error: OSError) -> ResourceError:
    return ResourceError(
        f"{path} cannot be made: {error.strerror or error}",
        "choose a writable folder with --run-dir",
    )


def read_sweep(path: Path) -> dict[str, Any]:
    """Read ``sweep.yaml``.

    Raises:
        DataError: If it is missing or damaged.
    """
    found = read_yaml(path / "sweep.yaml")
    if not isinstance(found, dict):
        raise DataError(f"{path / 'sweep.yaml'} is no description of a sweep")
    for key in ("words", "trials"):
        values = found.get(key)
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise DataError(f"{path / 'sweep.yaml'}: {key} is no list of texts")
    if not isinstance(found.get("home"), str):
        raise DataError(f"{path / 'sweep.yaml'}: home is no folder")
    if found.get("job") != "train":
        raise DataError(f"{path / 'sweep.yaml'}: job is {found.get('job')!r}, wanted 'train'")
    return found


@contextmanager
def only_attempt(file: Path, record: dict[str, Any], patience_s: float) -> Iterator[None]:
    """Note that a process works on a trial, and see to it that no other does.

    A machine may be lost to Ray while its process still writes for a moment: what takes over waits
    for that to end. The lock goes with the process that holds it.

    Args:
        file: The trial's attempts.
        record: Goes into it as one line.
        patience_s: Seconds to wait for the other.

    Raises:
        AutomixError: If the other process does not end.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as handle:
        patience = time.monotonic() + patience_s
        while not lock(handle):
            if time.monotonic() > patience:
                raise AutomixError(
                    f"another process has held {file} for {patience_s:.0f} s",
                    "it works on the same trial: stop it",
                )
            time.sleep(0.1)
        handle.write(json.dumps(record) + "\n")
        handle.flush()
        yield


def _refuse_another(path: Path, plan: SweepPlan) -> None:
    """Refuse to go on with a search as if it were another; a grid may grow."""
    if not (path / "sweep.yaml").is_file():
        return
    there, here = read_sweep(path), described(plan)
    known = there.get("sweep")
    known = known if isinstance(known, dict) else {}
    same = known.get("search", "grid") == plan.settings.search
    if plan.settings.searches:
        # How many trials is said by the trials themselves.
        deciding = set(names_that_affect(SweepSettings, "result")) - {"trials"}
        same &= there["trials"] == here["trials"]
        same &= all(known.get(name) == here["sweep"][name] for name in deciding)
    if not same:
        raise ConfigError(
            f"{path} holds another search",
            "give its own overrides again, another sweep.name, or --overwrite",
        )


def _refuse_unless_ours(path: Path) -> None:
    try:
        taken = path.exists() and not (
            path.is_dir() and {item.name for item in path.iterdir()} <= {LOCK}
        )
    except OSError as error:
        raise ResourceError(f"{path} cannot be read: {error.strerror or error}") from None
    if taken and not (path / "sweep.yaml").is_file():
        raise ConfigError(
            f"{path} is no sweep (it has no sweep.yaml), so it is left as it is",
            "choose another --run-dir or sweep.name",
        )
