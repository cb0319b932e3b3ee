"""What the docstrings of a mix say; how they are written stands in ``automix.mixes``."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from textwrap import dedent
from typing import Any

_HEADING = re.compile(r"^([A-Z][a-z]+):$", re.MULTILINE)
_ARGUMENT = re.compile(r"^(\w+): ", re.MULTILINE)


@dataclass(frozen=True)
class Setting:
    """A number of a method's own."""

    name: str
    default: str
    """As ``trainer.mix.options`` takes it."""
    meaning: str


@dataclass(frozen=True)
class MixDocs:
    """The parts of a page that are written by hand, in Markdown."""

    title: str
    """What it is published as, and what it does in a few words."""
    source: str
    """The papers; empty where there is none."""
    idea: str
    sections: Mapping[str, str]
    """``Formula``, ``Guided``, ``Differs`` and others, each where there is one."""
    settings: tuple[Setting, ...]


def read_docs(function: Callable[..., Any]) -> MixDocs:
    """Read the docstrings of a mix function and of its module."""
    title, _, rest = inspect.cleandoc(_module_docstring(function)).partition("\n\n")
    text = inspect.getdoc(function) or ""
    idea, *parts = _HEADING.split(text)
    sections = {
        name: dedent(body.strip("\n")).strip()
        for name, body in zip(parts[::2], parts[1::2], strict=True)
    }
    settings = _settings(function, sections.pop("Args", ""))
    formula = {"Formula": sections.pop("Formula")} if "Formula" in sections else {}
    return MixDocs(
        " ".join(title.split()).rstrip("."),
        markdown(rest.strip().removeprefix("Paper: ")),
        markdown(idea.strip()),
        formula | {name: markdown(body) for name, body in sections.items()},
        settings,
    )


def markdown(text: str) -> str:
    """Return text of a docstring as Markdown, with links to papers."""
    text = re.sub(r"``([^`]*)``", r"`\1`", text)
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)


def _module_docstring(function: Callable[..., Any]) -> str:
    module = inspect.getmodule(function)
    return (module.__doc__ if module else None) or function.__name__


def _settings(function: Callable[..., Any], arguments: str) -> tuple[Setting, ...]:
    _, *parts = _ARGUMENT.split(arguments)
    meanings = dict(zip(parts[::2], parts[1::2], strict=True))
    return tuple(
        Setting(name, _typed(parameter.default), markdown(" ".join(meanings.get(name, "").split())))
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    )


def _typed(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
