"""Options and output that commands share."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

overrides = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
as_json = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


class PathName(click.Path):
    """A path, but not the empty word that an unset shell variable leaves: it means this folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Refuse the empty word."""
        if value == "":
            self.fail("it is empty, wanted a path; for the current folder write '.'", param, ctx)
        return super().convert(value, param, ctx)


def verbosity(function: F) -> F:
    """Add -v and -q, and set logging up before the command runs."""
    for option in (
        click.option(
            "-v",
            "--verbose",
            is_flag=True,
            expose_value=False,
            callback=_verbose,
            is_eager=True,
            help="Say more; show tracebacks.",
        ),
        click.option(
            "-q",
            "--quiet",
            is_flag=True,
            expose_value=False,
            callback=_quiet,
            is_eager=True,
            help="Say nothing but results and errors.",
        ),
    ):
        function = option(function)
    return function


def run_options(function: F) -> F:
    """Add what every command that makes a run directory takes."""
    for option in (
        overrides,
        click.option("--run-dir", type=PathName(), help="Where to write."),
        click.option("--overwrite", is_flag=True, help="Replace the run directory if it exists."),
        click.option("--dry-run", is_flag=True, help="Check and show the plan; touch no disk."),
        as_json,
        verbosity,
    ):
        function = option(function)
    return function


def _verbose(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    set_up_logging(logging.DEBUG if value else None)


def _quiet(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        set_up_logging(logging.WARNING)


def set_up_logging(level: int | None) -> None:
    """Send the log to stderr for humans; stdout is for results."""
    log = logging.getLogger("automix")
    if level is None and log.handlers:
        return
    log.handlers.clear()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    handler.setLevel(level or logging.INFO)
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)  # a run's log.txt has all of it
    log.propagate = False


@contextmanager
def courtesy(where: Path) -> Iterator[None]:
    """Print what is on the disk already: where stdout takes nothing, that is all that is lost.

    Args:
        where: What holds it.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        drop(sys.stdout)
        logging.getLogger("automix").warning(
            "stdout cannot be written: %s; the result is in %s", error.strerror or error, where
        )


def drop(stream: IO[str]) -> int:
    """Drop what is left to print: the reader, such as ``head``, has seen enough; return 0."""
    with suppress(OSError):  # a stand-in for a stream has no number
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return 0


def print_json(value: Any) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(value, indent=2))
