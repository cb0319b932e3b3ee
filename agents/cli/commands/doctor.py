"""``doctor``: whether this machine can do it."""

from __future__ import annotations

import click

from automix.agents.cli.options import as_json, print_json, verbosity


@click.command("doctor")
@as_json
@verbosity
def command(as_json: bool) -> None:
    """Show versions, device, disk and data, and play one tiny episode."""
    from automix.agents.cli.doctor import examine

    findings = examine()
    if as_json:
        print_json(findings)
    else:
        for name, finding in findings.items():
            click.echo(f"{name:20s} {finding}")
