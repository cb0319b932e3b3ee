"""``train``: learn a policy, compare it, report."""

from __future__ import annotations

from pathlib import Path

import click

from agents.cli.options import announce, print_json, run_options


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
    from agents.cli.plan import print_plan
    from agents.cli.tables import print_result
    from agents.config import load_settings
    from agents.jobs import check, run_train
    from agents.rundir import default_path

    settings = load_settings(overrides)
    path = run_dir or default_path(settings, "train")
    if dry_run:
        check(settings, learns=True)
        print_plan(settings, path, as_json, learns=True)
        return
    announce(path, f"python run.py report {path}   (once it has finished)")
    result = run_train(settings, path, overwrite)
    if as_json:
        print_json(result)
    else:
        print_result(result)
    announce(path, f"open {path.absolute() / 'report' / 'index.html'}")
