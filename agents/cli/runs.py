"""What ``train``, ``compare`` and ``resume`` have in common: plan or play, announce, print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from automix.agents.cli.options import courtesy, print_json
from automix.agents.cli.plan import print_plan
from automix.agents.cli.tables import print_result
from automix.agents.config.settings import RunSettings
from automix.agents.jobs.check import check
from automix.agents.jobs.run import run_compare, run_train
from automix.agents.runs.rundir import announce, default_path


def carry_out(
    settings: RunSettings,
    run_dir: Path | None,
    *,
    learns: bool,
    overwrite: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Show the plan of a run, or do it and print its result.

    Args:
        settings: Of the run.
        run_dir: Where to write; a name is made if there is none.
        learns: Whether an agent learns first.
        overwrite: Replace the directory if it exists.
        dry_run: Check and show the plan only.
        as_json: One JSON document on stdout.
    """
    path = run_dir or default_path(settings, "train" if learns else "compare")
    if dry_run:
        settings, device = check(settings, learns)
        print_plan(settings, path, device, as_json, learns)
        return
    result = (run_train if learns else run_compare)(settings, path, overwrite)
    print_outcome(result, path, as_json)


def print_outcome(result: dict[str, Any], path: Path, as_json: bool) -> None:
    """Print what a run in ``path`` came to, and where its page is."""
    with courtesy(path / "result.json"):
        if as_json:
            print_json(result)
        else:
            print_result(result)
    announce(path, f"open {path.absolute() / 'report' / 'index.html'}")
