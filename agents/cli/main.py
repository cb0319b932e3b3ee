"""The door: finds commands, turns errors into one line and an exit code.

Nothing heavy is imported before a command runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
from contextlib import suppress
from errno import ENOSPC
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from automix.agents.cli.options import drop

if TYPE_CHECKING:
    from automix.core.errors import AutomixError

WRONG_FILES = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
"""Errors of files that are not what they should be; all others are of the machine."""

COMMANDS = (
    *("train", "compare", "sweep", "evaluate", "resume", "export", "report"),
    *("gallery", "list", "config", "doctor"),
)


class Commands(click.Group):
    """Looks commands up by file name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which they are used."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's file, which imports nothing heavy itself."""
        if cmd_name not in COMMANDS:
            from automix.core.errors import ConfigError, did_you_mean

            raise ConfigError(
                f"{cmd_name!r} is not a command.{did_you_mean(cmd_name, COMMANDS)}",
                f"known: {', '.join(COMMANDS)}",
            )
        module = importlib.import_module(f"automix.agents.cli.commands.{cmd_name}")
        return module.command


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        # Not from the package's metadata: a checkout that is not installed has none.
        from automix import __version__

        click.echo(f"automix {__version__}")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Version."
)
def cli() -> None:
    """Learn, epoch by epoch, how a classifier's training images are mixed."""


def main() -> None:
    """Run the command line; the exit code says what happened (docs/commands.md)."""
    _replace_closed_streams()
    signal.signal(signal.SIGTERM, _terminated)
    try:
        _check_encodings()
        code = cli.main(standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        code = drop(sys.stdout)
    except SystemExit as end:  # so click and rich end when a pipe is closed
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        code = drop(sys.stdout)
    except click.exceptions.Abort:
        code = _interrupted()
    except click.ClickException as error:
        code = _misused(error)
    except KeyboardInterrupt:
        code = _interrupted()
    except Exception as error:
        code = _failed(error)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # at which Python itself would fail at its end, with a code of its own
            drop(stream)
    sys.exit(code or 0)


def _failed(error: Exception) -> int:
    from automix.core.errors import AutomixError

    # Shown with -v only; a run's log.txt always has it.
    logging.getLogger("automix").debug("traceback", exc_info=error)
    known = error if isinstance(error, AutomixError) else _of_the_machine(error)
    if known:
        _say(known.message, known.hint)
        return known.exit_code
    _say(
        f"{type(error).__name__}: {' '.join(str(error).split())}",
        "this is a defect of automix; run again with -v and report the output",
    )
    return 1


def _of_the_machine(error: Exception) -> AutomixError | None:
    """Return what the user is told of an error that the system raises; None for any other."""
    from automix.core.errors import DataError, ResourceError

    told = str(getattr(error, "strerror", None) or error)
    if isinstance(error, OSError) and error.filename is not None:
        kind = DataError if isinstance(error, WRONG_FILES) else ResourceError
        return kind(f"{os.fsdecode(error.filename)}: {told}")
    if isinstance(error, OSError) and error.errno is not None:
        what = "stdout cannot be written" if error.errno == ENOSPC else "the system refused"
        return ResourceError(f"{what}: {told}")
    if isinstance(error, MemoryError):
        return ResourceError(f"out of memory: {told or 'MemoryError'}", "ask for less at a time")
    return None


def _say(error: str, hint: str) -> None:
    """Print an error and the next step, if stderr takes them; the exit code is kept anyway."""
    with suppress(OSError):
        click.echo(f"error: {error}" + (f"\nhint: {hint}" if hint else ""), err=True)


def _check_encodings() -> None:
    from automix.core.errors import check_encoding

    for word in sys.argv:
        check_encoding(word)


def _misused(error: click.ClickException) -> int:
    """Report a wrong option or argument in the form of all other errors."""
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
        error.show()
        return error.exit_code
    context = getattr(error, "ctx", None)
    command = context.command_path if context else Path(sys.argv[0]).name
    _say(error.format_message(), f"{command} --help shows what it takes")
    return error.exit_code


def _replace_closed_streams() -> None:
    """Open what was closed by who started this process, lest a file of a run gets its number."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115


def _interrupted() -> int:
    with suppress(OSError):
        click.echo("interrupted", err=True)
    return 130


def _terminated(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
