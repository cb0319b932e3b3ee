"""``compare``: contestants against each other on held-out tasks."""

from __future__ import annotations

from pathlib import Path

import click

from agents.cli.options import announce, print_json, run_options


@click.command("compare")
@run_options
def command(
    overrides: tuple[str, ...], run_dir: Path | None, overwrite: bool, dry_run: bool, as_json: bool
) -> None:
    """Compare policies and schedules on held-out tasks, paired by task and seed.

    \b
    python run.py compare policy=runs/<name>/export
    python run.py compare compare.contestants=[none,random,fixed:cutmix@0.5]
    """  # noqa: D301 (click reads the control character)
    from agents.cli.plan import print_plan
    from agents.cli.tables import print_result
    from agents.config import load_settings
    from agents.jobs import check, run_compare, without_agent
    from agents.rundir import default_path

    settings = without_agent(load_settings(overrides))
    path = run_dir or default_path(settings, "compare")
    if dry_run:
        check(settings, learns=False)
        print_plan(settings, path, as_json, learns=False)
        return
    announce(path, f"python run.py report {path}   (once it has finished)")
    result = run_compare(settings, path, overwrite)
    if as_json:
        print_json(result)
    else:
        print_result(result)
    announce(path, f"open {path.absolute() / 'report' / 'index.html'}")
