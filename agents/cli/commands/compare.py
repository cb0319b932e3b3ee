"""``compare``: contestants against each other on held-out tasks."""

from __future__ import annotations

from pathlib import Path

import click

from automix.agents.cli.options import run_options


@click.command("compare")
@run_options
def command(
    overrides: tuple[str, ...], run_dir: Path | None, overwrite: bool, dry_run: bool, as_json: bool
) -> None:
    """Compare policies and schedules on held-out tasks, paired by task and seed.

    Without policy= the one that comes along plays (list policies).

    \b
    python run.py compare task=folder task.root=my_images
    python run.py compare policy=runs/<name>/export
    python run.py compare compare.contestants=[none,random,fixed:cutmix@0.5]
    """  # noqa: D301 (click reads the control character)
    from automix.agents.cli.runs import carry_out
    from automix.agents.config.compose import load_settings, sets
    from automix.agents.jobs.check import with_policy

    carry_out(
        with_policy(load_settings(overrides), named=sets(overrides, "compare.contestants")),
        run_dir,
        learns=False,
        overwrite=overwrite,
        dry_run=dry_run,
        as_json=as_json,
    )
