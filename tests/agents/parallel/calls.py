"""Functions that the workers of these tests run; importable by name."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from automix.core.errors import ConfigError


def slow_square(state: dict[str, Any], number: int, delay: float) -> int:
    time.sleep(delay)
    return number**2


def refuse_three(state: dict[str, Any], number: int) -> int:
    if number == 3:
        raise ConfigError("no threes")
    return number


def count_up(state: dict[str, Any], by: int) -> int:
    state["sum"] = state.get("sum", 0) + by
    return int(state["sum"])


def die(state: dict[str, Any]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang(state: dict[str, Any]) -> None:
    time.sleep(60)


def hang_once(state: dict[str, Any], mark: Path) -> str:
    if not mark.exists():
        mark.touch()
        time.sleep(60)
    return "done"


def unreadable(state: dict[str, Any]) -> Any:
    return threading.Lock()


def where(state: dict[str, Any], delay: float) -> int:
    time.sleep(delay)
    return threading.get_ident()


def count_and_fail(state: dict[str, Any], by: int) -> None:
    count_up(state, by)
    raise ConfigError("after all")
