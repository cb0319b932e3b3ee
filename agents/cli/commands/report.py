"""``report``: draw a run's page again."""

from __future__ import annotations

from pathlib import Path

import click

from automix.agents.cli.options import PathName, as_json, print_json, verbosity


@click.command("report")
@click.argument("run", type=PathName(), metavar="RUN_DIR")
@as_json
@verbosity
def command(run: Path, as_json: bool) -> None:
    """Write report/index.html of a finished run, one file without network."""
    from automix.agents.report import write_report

    page = write_report(run).absolute()
    if as_json:
        print_json({"report": str(page)})
    else:
        click.echo(str(page))
