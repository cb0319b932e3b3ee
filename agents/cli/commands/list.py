"""``list``: everything that has a name."""

from __future__ import annotations

import click

from automix.agents.cli.options import as_json, print_json, verbosity


@click.command("list")
@click.argument("what", required=False)
@as_json
@verbosity
def command(what: str | None, as_json: bool) -> None:
    """List what has a name: mixes, saliency, labels, datasets, models, schedules, policies ...

    `published` are names of papers' methods, beside what they are made of here.

    \b
    python run.py list
    python run.py list mixes
    """  # noqa: D301 (click reads the control character)
    from automix.agents.cli.catalogue import catalogue
    from automix.agents.cli.tables import print_table

    found = catalogue(what)
    if as_json:
        print_json(found)
        return
    for kind, entries in found.items():
        columns = ["name", "what"]
        rows = [[e["name"], e["summary"]] for e in entries]
        if what and entries and "supports" in entries[0]["facts"]:
            facts = ("requires", "supports")
            columns = ["name", *facts, "what"]
            rows = [
                [name, *(", ".join(e["facts"][fact]) for fact in facts), summary]
                for e, (name, summary) in zip(entries, rows, strict=True)
            ]
        print_table(kind, columns, rows, texts=len(columns), whole=len(columns) - 1)
        click.echo()
