"""Templates that become pages: every word is escaped, and a missing one is an error."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def fill(template: str, **content: Any) -> str:
    """Return a page.

    Args:
        template: A file in ``agents/report/templates``.
        content: What it shows.
    """
    environment = Environment(
        loader=PackageLoader("automix.agents.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(content)
