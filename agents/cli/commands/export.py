"""``export``: take a learned policy home."""

from __future__ import annotations

from pathlib import Path

import click

from automix.agents.cli.options import PathName, as_json, print_json, verbosity


@click.command("export")
@click.argument("run", type=PathName(), metavar="RUN_DIR")
@click.option("--out", type=PathName(), required=True, help="Folder to write.")
@click.option(
    "--format",
    "formats",
    type=click.Choice(["pt2", "onnx"]),
    multiple=True,
    help="Write the policy for torch.export or ONNX, too; may be given twice.",
)
@as_json
@verbosity
def command(run: Path, out: Path, formats: tuple[str, ...], as_json: bool) -> None:
    """Check a run's policy and copy it: policy.json, policy.safetensors, schedule.yaml."""
    from automix.agents.learning.export import copy_export

    files = copy_export(run, out, formats)
    if as_json:
        print_json({"files": [str(file.absolute()) for file in files]})
        return
    for file in files:
        click.echo(str(file.absolute()))
    click.echo(f"use it: automix.load_schedule({str(out)!r}).mixer(num_classes=...)")
