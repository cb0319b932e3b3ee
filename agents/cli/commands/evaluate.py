"""``evaluate``: one exported policy, or one contestant, on held-out tasks."""

from __future__ import annotations

from pathlib import Path

import click

from automix.agents.cli.options import as_json, overrides, print_json, verbosity
from automix.policy.shipped import DEFAULT


@click.command("evaluate")
@click.argument("contestant", metavar="[EXPORT_DIR|POLICY|CONTESTANT]", default=DEFAULT)
@overrides
@as_json
@verbosity
def command(contestant: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Score one policy or one schedule on held-out tasks; writes nothing.

    \b
    python run.py evaluate
    python run.py evaluate runs/<name>/export
    python run.py evaluate fixed:cutmix@0.5 compare.seeds=5
    """  # noqa: D301 (click reads the control character)
    from automix.agents.cli.tables import print_result
    from automix.agents.config.compose import load_settings
    from automix.agents.jobs.run import evaluate
    from automix.policy.shipped import shipped

    if "=" in contestant:  # an override: nobody was named
        contestant, overrides = DEFAULT, (contestant, *overrides)
    folder = bool(contestant) and Path(contestant).is_dir()  # the empty word is no folder
    policy = contestant if folder or contestant in shipped() else ""
    result = evaluate(load_settings(overrides), "agent" if policy else contestant, policy)
    if as_json:
        print_json(result)
    else:
        print_result(result)
