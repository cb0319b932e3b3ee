"""Trials that fail, die and are mended, by name: Ray's processes import them from here."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from automix.agents.config.settings import RunSettings
from automix.agents.jobs.run import train_or_resume
from automix.core.errors import AutomixError


def troubled(settings: RunSettings, path: Path) -> dict:
    """Train, but for three seeds, as long as nobody has mended the sweep.

    Seed 13 fails, 14 kills its process each time, 15 the first time.
    """
    sweep = path.parents[1]
    once = sweep / "died once"
    if settings.seed == 15 and not once.exists():
        once.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if not (sweep / "mended").exists():
        if settings.seed == 14:
            os.kill(os.getpid(), signal.SIGKILL)
        if settings.seed == 13:
            raise AutomixError("it broke", "mend it")
    return train_or_resume(settings, path)
