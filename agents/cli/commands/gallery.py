"""``gallery``: what every mix does to the same eight images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from automix.agents.cli.options import PathName, as_json, print_json, verbosity

NAMED = 3
"""Rows left out for one reason that are named; --json names all."""


@click.command("gallery")
@click.argument("arguments", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--mixes", multiple=True, metavar="NAME...", help="Only these; default all.")
@click.option("--ratios", default="0.25,0.5", show_default=True, help="Wanted partner shares.")
@click.option("--saliency", default="", help="Only by these, and off; default all.")
@click.option(
    "--out",
    type=PathName(),
    default=Path("gallery.png"),
    show_default=True,
    help="The PNG file to write.",
)
@as_json
@verbosity
def command(
    arguments: tuple[str, ...],
    mixes: tuple[str, ...],
    ratios: str,
    saliency: str,
    out: Path,
    as_json: bool,
) -> None:
    """Draw every mix, ratio and saliency on eight training images, with masks and labels.

    \b
    python run.py gallery
    python run.py gallery --mixes cutmix rmix --ratios 0.1,0.5 --saliency off,spectral
    """  # noqa: D301 (click reads the control character)
    from automix.agents.config.compose import load_settings
    from automix.agents.gallery import write_gallery

    # Click gives an option one value: arguments after it that set no key are names too.
    more = [argument for argument in arguments if mixes and "=" not in argument]
    settings = load_settings([argument for argument in arguments if argument not in more])
    made = write_gallery(
        out, settings, _split([*mixes, *more]), _numbers(ratios), _split([saliency])
    )
    if as_json:
        print_json(
            {
                "gallery": str(made.path.absolute()),
                "forms": list(made.rows),
                "skipped": dict(made.skipped),
            }
        )
        return
    for reason in dict.fromkeys(made.skipped.values()):
        rows = [row for row, why in made.skipped.items() if why == reason]
        others = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
        click.echo(f"left out {', '.join(rows[:NAMED])}{others}: {reason}", err=True)
    click.echo(f"{len(made.rows)} forms in {made.path.absolute()}")


def _split(texts: Iterable[str]) -> list[str]:
    """Return names that were given one by one, or with commas between them."""
    return [name.strip() for text in texts for name in text.split(",") if name.strip()]


def _numbers(text: str) -> list[float]:
    try:
        return [float(word) for word in _split([text])]
    except ValueError:
        raise click.UsageError(
            f"--ratios is {text!r}, wanted numbers with commas between them"
        ) from None
