"""``sweep``: many trials of ``train``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from automix.agents.cli.options import courtesy, print_json, run_options


@click.command("sweep")
@run_options
def command(
    overrides: tuple[str, ...], run_dir: Path | None, overwrite: bool, dry_run: bool, as_json: bool
) -> None:
    """Train every combination of values, on all cores or a Ray cluster, and rank them.

    The same command again goes on with what has not finished.

    \b
    python run.py sweep agent=ppo,a2c agent.learning_rate=1e-4,3e-4 'seed=range(0,5)'
    python run.py sweep agent.gamma=0.9,1.0 seed=0,1,2 sweep.name=gamma sweep.cpus_per_trial=2
    python run.py sweep agent=ppo,a2c ray.address=auto --run-dir /shared/sweeps/first
    python run.py sweep sweep.search=asha 'agent.learning_rate=interval(1e-4,1e-2)'
    """  # noqa: D301 (click reads the control character)
    if dry_run:
        _print_plan(overrides, run_dir, as_json)
        return
    from automix.agents.sweep import run_sweep
    from automix.core.extras import require

    require("ray", "report")
    conclude(run_sweep(overrides, run_dir, overwrite), as_json)


def conclude(result: dict[str, Any], as_json: bool) -> None:
    """Print what a sweep has found.

    Raises:
        SweepError: If trials failed.
    """
    from automix.agents.cli.tables import print_search, print_sweep
    from automix.agents.runs.rundir import announce
    from automix.core.errors import SweepError

    path, failed = Path(result["sweep"]), result["failed"]
    with courtesy(path):
        if as_json:
            print_json(result)
        else:
            (print_search if "search" in result else print_sweep)(result)
    announce(path, f"open {path / ('best/report' if result.get('best') else 'report')}/index.html")
    if failed:
        first = failed[0]
        where = f" ({first['log']})" if first["log"] else ""
        raise SweepError(
            f"{len(failed)} of {result['trials']} trials failed; {first['words']}:"
            f" {first['error']}{where}",
            "the others have gone on from there; --overwrite begins anew"
            if result.get("search") in ("pbt", "pb2")
            else f"once that is mended: python run.py resume {path}",
        )


def _print_plan(overrides: tuple[str, ...], run_dir: Path | None, as_json: bool) -> None:
    from automix.agents.sweep.planning.cost import described_plan

    plan = described_plan(overrides, run_dir)
    if as_json:
        print_json({"plan": plan})
        return
    for name, value in plan.items():
        if name != "combinations":
            click.echo(f"{name:18s} {value}")
    for combination in plan["combinations"]:
        click.echo(f"  {combination}")
