"""Commands in processes of their own, with a fault switched on from outside.

They are forked from a process that has imported everything and has never run anything. What they
start, workers and Ray alike, carries a mark in its environment, by which it is found again.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path

from tests.cli.conftest import Outcome
from tests.faults.trouble import PATIENCE_S, nothing

ROOT = Path(__file__).parents[2]
MARK = "AUTOMIX_TESTED_BY"

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.faults.ready"])


class Command:
    """``python run.py <words>`` at work.

    Args:
        folder: Where it is started.
        words: Of the command line.
        fault: Called in its process before it begins.
    """

    def __init__(self, folder: Path, *words: object, fault: Callable[[], object] = nothing) -> None:
        self._files = (folder / f"{uuid.uuid4().hex}.out", folder / f"{uuid.uuid4().hex}.err")
        self._mark = uuid.uuid4().hex
        told = (folder, tuple(map(str, words)), fault, self._mark, self._files)
        self._process = _CONTEXT.Process(target=_run, args=told)
        self._process.start()
        assert self._process.pid
        self.pid = self._process.pid

    def outcome(self) -> Outcome:
        """Wait for its end; return exit code (minus the number of a signal), stdout, stderr."""
        self._process.join(PATIENCE_S)
        if self._process.exitcode is None:
            self._process.kill()
            raise TimeoutError(f"it goes on and on: {self._files[1].read_text()}")
        out, err = (path.read_text(encoding="utf-8") for path in self._files)
        return Outcome(self._process.exitcode, out, err)

    def send(self, number: int) -> None:
        """Send a signal to the command itself, and to nobody that it has started."""
        os.kill(self.pid, number)

    def has_said(self, words: str) -> None:
        """Wait until it has said something on stderr."""
        deadline = time.monotonic() + PATIENCE_S
        while words not in self._files[1].read_text(encoding="utf-8"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"it does not say {words!r}")
            time.sleep(0.02)

    def killed(self) -> None:
        """Kill the command itself and wait for its end."""
        self.send(signal.SIGKILL)
        assert self.outcome().code == -signal.SIGKILL

    def left(self) -> list[int]:
        """Return the processes that it has started and that are there."""
        return [
            int(path.parent.name)
            for path in Path("/proc").glob("[0-9]*/environ")
            if self._started(path)
        ]

    def assert_nobody_left(self, seconds: float = 30.0) -> None:
        """Check that all that it has started ends within a time."""
        deadline = time.monotonic() + seconds
        while self.left() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert [_name(pid) for pid in self.left()] == []

    def _started(self, environ: Path) -> bool:
        try:
            return f"{MARK}={self._mark}".encode() in environ.read_bytes()
        except OSError:  # gone, or somebody else's
            return False


def run(folder: Path, *words: object, fault: Callable[[], object] = nothing) -> Outcome:
    """Run a command to its end, and check that nothing of it is left."""
    command = Command(folder, *words, fault=fault)
    outcome = command.outcome()
    command.assert_nobody_left()
    return outcome


def _run(
    folder: Path,
    words: tuple[str, ...],
    fault: Callable[[], object],
    mark: str,
    files: tuple[Path, Path],
) -> None:
    from automix.agents.cli.main import main

    os.setsid()
    os.chdir(folder)
    os.environ[MARK] = mark
    for number, path in enumerate(files, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    sys.stdout, sys.stderr = (
        open(number, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
        for number in (1, 2)
    )
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    script = str(ROOT / "run.py")
    sys.argv = [script, *words]
    sys.path.insert(0, str(ROOT))
    # Whoever starts processes, Ray too, asks which script this is.
    sys.modules["__main__"].__file__ = script
    fault()
    main()


def _name(pid: int) -> str:
    try:
        return f"{pid} " + Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")[:200]
    except OSError:
        return f"{pid}"
