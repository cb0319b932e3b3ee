"""Make the pages of ``docs/mixes`` again: python -m tools.mix_pages."""

import click

from tools.mix_pages import write_pages

if __name__ == "__main__":
    for path in write_pages():
        click.echo(str(path))
