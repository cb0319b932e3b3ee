"""``config``: the settings that a run would have."""

from __future__ import annotations

import click

from automix.agents.cli.options import as_json, overrides, print_json, verbosity


@click.command("config")
@overrides
@as_json
@verbosity
def command(overrides: tuple[str, ...], as_json: bool) -> None:
    """Print the composed configuration, every key of it."""
    from dataclasses import asdict

    import yaml

    from automix.agents.config.compose import load_settings
    from automix.agents.runs.rundir import plain

    values = plain(asdict(load_settings(overrides)))
    if as_json:
        print_json(values)
    else:
        click.echo(yaml.safe_dump(values, sort_keys=False), nl=False)
