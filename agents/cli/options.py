"""Options and output that commands share."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

overrides = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
as_json = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


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
        click.option("--run-dir", type=click.Path(path_type=Path), help="Where to write."),
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


def print_json(value: Any) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(value, indent=2))
