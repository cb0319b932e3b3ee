"""``train``: learn a policy, compare it, report."""

from __future__ import annotations

from pathlib import Path

import click

from automix.agents.cli.options import run_options


@click.command("train")
@run_options
def command(
    overrides: tuple[str, ...], run_dir: Path | None, overwrite: bool, dry_run: bool, as_json: bool
) -> None:
    """Learn a mix policy, compare it with what a person would pick, and report.

    \b
    python run.py train
    python run.py train seed=3 agent.learning_rate=1e-3
    python run.py train task=npz task.root=my_images.npz
    """  # noqa: D301 (click reads the control character)
    from automix.agents.cli.runs import carry_out
    from automix.agents.config.compose import load_settings

    carry_out(
        load_settings(overrides),
        run_dir,
        learns=True,
        overwrite=overwrite,
        dry_run=dry_run,
        as_json=as_json,
    )
