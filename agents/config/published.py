"""Published figures to read ours beside; what was not read at its source says so."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from automix.core.errors import ConfigError, did_you_mean
from automix.core.files import read_yaml

FILE = Path(__file__).with_suffix(".yaml")

Figures = dict[str, Any]
"""``name``, ``net``, ``title``, ``differs`` (how their protocol differs from ours), and
``figures``: a list of ``contestant`` (empty where none of ours is the same), ``method``, ``top1``
in percent, ``source`` in words, ``verified``."""


def published_figures(name: str, net: str) -> Figures | None:
    """Return the published figures of a net.

    Args:
        name: A set of figures in ``published.yaml``; empty for none.
        net: A timm name. A net without figures has an empty list of them.

    Raises:
        ConfigError: If there is no such set.
    """
    if not name:
        return None
    check_name(name)
    content, chosen = _content(), _content()["sets"][name]
    return {
        "name": name,
        "net": net,
        "title": chosen["title"],
        "differs": chosen["differs"],
        "figures": [
            figure | {"source": content["sources"][figure["source"]]}
            for figure in chosen["nets"].get(net, [])
        ],
    }


def check_name(name: str) -> None:
    """Refuse the name of a set that does not exist; an empty one is none.

    Raises:
        ConfigError: If there is no such set.
    """
    if name and name not in names():
        raise ConfigError(
            f"published is {name!r}, which is no set of figures.{did_you_mean(name, names())}",
            f"known: {', '.join(names())}",
        )


def names() -> list[str]:
    """Return the sets of figures."""
    return list(_content()["sets"])


@lru_cache(maxsize=1)
def _content() -> Mapping[str, Any]:
    """Return what ``published.yaml`` holds."""
    return read_yaml(FILE)
