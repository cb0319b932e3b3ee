"""The door: finds commands, turns errors into one line and an exit code.

Nothing heavy is imported before a command runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType

import click

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
    signal.signal(signal.SIGTERM, _terminated)
    try:
        code = cli.main(standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        code = _closed_pipe()
    except SystemExit as end:  # so click and rich end when a pipe is closed
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        code = _closed_pipe()
    except click.exceptions.Abort:
        code = _interrupted()
    except click.ClickException as error:
        code = _misused(error)
    except KeyboardInterrupt:
        code = _interrupted()
    except Exception as error:
        code = _failed(error)
    sys.exit(code or 0)


def _failed(error: Exception) -> int:
    from automix.core.errors import AutomixError

    # Shown with -v only; a run's log.txt always has it.
    logging.getLogger("automix").debug("traceback", exc_info=error)
    if isinstance(error, AutomixError):
        click.echo(f"error: {error.message}", err=True)
        if error.hint:
            click.echo(f"hint: {error.hint}", err=True)
        return error.exit_code
    click.echo(f"error: {type(error).__name__}: {' '.join(str(error).split())}", err=True)
    click.echo(
        "hint: this is a defect of automix; run again with -v and report the output", err=True
    )
    return 1


def _misused(error: click.ClickException) -> int:
    """Report a wrong option or argument in the form of all other errors."""
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
        error.show()
        return error.exit_code
    click.echo(f"error: {error.format_message()}", err=True)
    context = getattr(error, "ctx", None)
    command = context.command_path if context else Path(sys.argv[0]).name
    click.echo(f"hint: {command} --help shows what it takes", err=True)
    return error.exit_code


def _closed_pipe() -> int:
    """Drop what is left to print: the reader, such as ``head``, has seen enough."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _interrupted() -> int:
    click.echo("interrupted", err=True)
    return 130


def _terminated(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
