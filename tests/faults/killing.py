"""Processes that are killed, and what is left of their runs.

A child is forked from a process that has imported everything, so that it starts in no time; what
kills it is SIGKILL, so that nothing is tidied up.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from automix.agents.config.settings import RunSettings
from automix.agents.jobs.run import train_or_resume

NO_RESULTS = ("config.yaml", "log.txt", "status.json", "env.json", "command.txt")
"""Of a run: they tell how it was done, such as by how many workers."""

WRITES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}
"""Audit events of Python around what changes a folder."""


def forked(job: Callable[[], object], silent: bool = True) -> int:
    """Start a job in a child; return its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        if silent:
            sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        job()
        code = 0
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(code)


def ended(pid: int) -> int:
    """Wait for a child; return its exit code, or minus the number of the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killing_itself(folder: Path, write: int) -> None:
    """Let this process die at its n-th write below a folder, counted from 0."""
    left = write

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event not in WRITES or not str(arguments[0]).startswith(str(folder)):
            return
        # mkstemp gives no mode; others are for reading only.
        if event == "open" and isinstance(arguments[1], str) and "r" in arguments[1]:
            return
        # To make what is there, or to remove what is not, changes nothing: the next write has that.
        if event != "open" and Path(str(arguments[0])).exists() == (event == "os.mkdir"):
            return
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    sys.addaudithook(watch)


def run_killed_at(write: int, settings: RunSettings, path: Path) -> bool:
    """Start or resume a run in a child that dies at a write; return whether it was done before."""

    def job() -> None:
        killing_itself(path, write)
        train_or_resume(settings, path)

    code = ended(forked(job))
    assert code in (0, -signal.SIGKILL), code
    return code == 0


def run_killed_after(seconds: float, settings: RunSettings, path: Path) -> bool:
    """Start or resume a run in a child and kill it after a time; return whether it was done."""
    pid = forked(lambda: train_or_resume(settings, path))
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0
            return True
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    done_in_time = ended(pid) == 0
    assert_nobody_left(pid)
    return done_in_time


def results_of(run: Path) -> dict[str, object]:
    """Return what a run came to: every file of it, without times and what only serves to go on."""
    found: dict[str, object] = {}
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        if path.is_dir() or name in NO_RESULTS:
            continue
        if name.startswith(("checkpoints/", "report/")) and not name.endswith("agent.safetensors"):
            continue
        if name.startswith("checkpoints/step_"):
            continue
        found[name] = path.read_bytes()
    found["result.json"] = without_times(json.loads((run / "result.json").read_text()))
    return found


def without_times(value: object) -> object:
    """Leave out what a clock told."""
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key != "wall_s"}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def assert_nobody_left(group: int, seconds: float = 10.0) -> None:
    """Check that all processes of a group end within a time."""
    deadline = time.monotonic() + seconds
    while anybody_in(group) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not anybody_in(group)


def anybody_in(group: int) -> bool:
    """Whether a process of the group is left; signal 0 only asks."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def sleeps(state: dict[str, object], seconds: float) -> None:
    """Work for a long time, in a worker."""
    time.sleep(seconds)


def group_of(group: int) -> list[int]:
    """Return the pids of a process group."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                if os.getpgid(int(folder.name)) == group:
                    found.append(int(folder.name))
    return found
