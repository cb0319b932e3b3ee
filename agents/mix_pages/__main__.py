"""Make the pages of ``docs/mixes`` again: python -m agents.mix_pages."""

import click

from agents.mix_pages import write_pages

if __name__ == "__main__":
    for path in write_pages():
        click.echo(str(path))
