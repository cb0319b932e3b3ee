"""``resume``: go on with a run or a sweep."""

from __future__ import annotations

from pathlib import Path

import click

from automix.agents.cli.options import PathName, as_json, verbosity


@click.command("resume")
@click.argument("path", type=PathName(), metavar="RUN_DIR")
@as_json
@verbosity
def command(path: Path, as_json: bool) -> None:
    """Go on with a run that was interrupted or killed, from its last checkpoint.

    Its directory is all that is needed. What comes out equals what the run would have come to if it
    had been left alone; a finished run is left as it is. Of a sweep, what has not finished or has
    failed is run.
    """
    if (path / "sweep.yaml").is_file():
        from automix.agents.cli.commands.sweep import conclude
        from automix.agents.sweep import resume_sweep

        conclude(resume_sweep(path), as_json)
        return
    from automix.agents.cli.runs import print_outcome
    from automix.agents.jobs.run import resume

    print_outcome(resume(path), path, as_json)
