"""Faults that tests switch on in a process of a command, before the command begins.

Each is a function, or an object that is called, that travels to the process. What happens in the
workers of a run happens in the blocks that they hold; a file counts their steps, so that processes
that know nothing of each other do.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

import automix.agents.learning.training
from automix.agents.config.settings import RunSettings
from automix.agents.learning.training import make_mix_block
from automix.envs.mix_env import MixVectorEnv

PATIENCE_S = 240.0
"""For what takes a second where nobody else is at work; a bound, not a measure."""


def nothing() -> None:
    """Let the command be."""


# In the blocks of a run --------------------------------------------------------------------------


@dataclass(frozen=True)
class Trouble:
    """Something that happens at certain steps of a run's blocks, counted over all processes.

    Args:
        folder: Where steps are counted, and where those that wait tell so.
        what: ``waits``, to be killed or let go; ``hangs``; ``no memory``; ``exception``.
        at: The first such step, from 0.
        times: How many steps in a row.
        anywhere: Whether the blocks count that the command's own process holds.
    """

    folder: Path
    what: str = "waits"
    at: int = 2
    times: int = 1
    anywhere: bool = False
    driver: int = 0

    def __call__(self) -> None:
        """Switch it on for the command of this process."""
        own = replace(self, driver=os.getpid())
        automix.agents.learning.training.make_mix_block = partial(make_troubled_block, own)  # type: ignore[assignment]

    def strike(self) -> None:
        """Let it happen, if it is time."""
        if os.getpid() == self.driver and not self.anywhere:
            return
        if not self.at <= self._count() < self.at + self.times:
            return
        if self.what == "waits":
            self._wait()
        elif self.what == "hangs":
            time.sleep(10 * PATIENCE_S)
        elif self.what == "no memory":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0")
        else:
            raise RuntimeError("trouble")

    def waiting(self) -> int:
        """Return the process that waits; whoever is told of it is told once."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for path in self.folder.glob("waits_*"):
                path.unlink()
                return int(path.name.partition("_")[2])
            time.sleep(0.02)
        raise TimeoutError("nobody waits")

    def let_go(self) -> None:
        """Let those that wait, and will, go on."""
        (self.folder / "go").touch()

    def _count(self) -> int:
        with (self.folder / "steps").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(b".")
            file.flush()
            return os.fstat(file.fileno()).st_size - 1

    def _wait(self) -> None:
        (self.folder / f"waits_{os.getpid()}").touch()
        deadline = time.monotonic() + PATIENCE_S
        while not (self.folder / "go").exists():
            if time.monotonic() > deadline:
                raise TimeoutError("nobody came")
            time.sleep(0.02)


def make_troubled_block(trouble: Trouble, *args: Any) -> MixVectorEnv:
    """Build a block that the trouble can strike at each step."""
    block = make_mix_block(*args)
    step = block.step

    def troubled(actions: Any) -> Any:
        trouble.strike()
        return step(actions)

    block.step = troubled  # type: ignore[method-assign]
    return block


# In the command's own process --------------------------------------------------------------------


def dies_between_write_and_rename(number: int) -> None:
    """Kill this process when its n-th checkpoint is written and has no name yet."""
    left = [number]

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename" and ".writing." in str(arguments[0]):
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1

    sys.addaudithook(watch)


def memory_runs_out_in_ray() -> None:
    """Let Ray tell once, in the middle of a run, that it has killed an actor for its memory."""
    import ray

    real, calls = ray.get, [0]

    def get(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == 12:
            raise ray.exceptions.OutOfMemoryError(
                "Memory on the node (IP: 127.0.0.1) where the task was running was "
                "14.90GB / 15.60GB (0.955), which exceeds the memory usage threshold of 0.95."
            )
        return real(*args, **kwargs)

    ray.get = get


def ray_may_not_start() -> None:
    """Let this process fail if it starts or joins a Ray."""
    import ray

    def init(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("it starts Ray")

    ray.init = init


def ray_is_not_installed() -> None:
    """Let the import of Ray fail, as Python does it."""
    sys.modules["ray"] = None  # type: ignore[assignment]


def disk_is_full_from(write: int, folder: Path) -> None:
    """Let the n-th file or folder that this process makes below a folder, and all later, fail."""
    left = [write]

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in ("open", "os.mkdir") or not str(arguments[0]).startswith(str(folder)):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        if left[0] == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[0]))
        left[0] -= 1

    sys.addaudithook(watch)


def two_trials_fail() -> None:
    """Let sweeps run here, one trial after the other, of which those of seeds 13 and 14 fail.

    Until there is a file ``mended`` beside the sweep.
    """
    import automix.agents.sweep
    from automix.agents.sweep import resume_sweep, run_sweep
    from tests.agents.sweep.stand_ins import Inlines

    runner: Any = Inlines().runs(fails_for_two_seeds)
    automix.agents.sweep.run_sweep = partial(run_sweep, runner=runner)  # type: ignore[assignment]
    automix.agents.sweep.resume_sweep = partial(resume_sweep, runner=runner)  # type: ignore[assignment]


def fails_for_two_seeds(settings: RunSettings, path: Path) -> dict[str, Any]:
    """Finish at once, or fail."""
    from tests.agents.sweep.stand_ins import mended, toy

    there = (path.parents[2] / "mended").exists()
    if settings.seed == 14 and not there:
        settings = replace(settings, seed=13)
    return dict(mended(settings, path) if there else toy(settings, path))
