"""Errors that a user can act on: what, where, got, wanted, next step.

Each class carries the exit code that the command line ends with.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST = 2000
"""Characters of a message; what is longer, for a path or a value in it, is cut in the middle."""


class AutomixError(Exception):
    """A failure that is explained to the user in one line, with a hint on the next.

    Args:
        message: What is wrong, where, what was got and what was wanted; one line.
        hint: The next step, one line; may be empty.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        message = str(message)  # gymnasium's AsyncVectorEnv builds an error from an error
        if len(message) > LONGEST:
            message = f"{message[: LONGEST // 2]} ... {message[-LONGEST // 4 :]}"
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(AutomixError):
    """A setting, name or command-line argument that cannot be used."""

    exit_code = 2


class DataError(AutomixError):
    """An input file or folder (images, policy, run directory) that cannot be used."""

    exit_code = 3


class ResourceError(AutomixError):
    """The machine lacks something: disk, permission, device, memory, optional package."""

    exit_code = 4


class SweepError(AutomixError):
    """A sweep is through, and some of its trials failed."""

    exit_code = 5


def check_encoding(name: str) -> None:
    """Refuse a name that is not UTF-8: it could stand in no file of a run.

    Raises:
        ConfigError: If it is not.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{name!a} is not UTF-8", "rename what it names") from None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the closest known name, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""
