"""``python -m benchmarks``: find the benchmarks, run them, show what they measured."""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import pkgutil
import shlex
import sys
import time
import traceback
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

import torch

from automix.agents.runs.rundir import describe_machine
from automix.core.errors import AutomixError, ConfigError, did_you_mean
from automix.core.files import write_json, write_text
from benchmarks import measures
from benchmarks.harness import Row, Section, Target, cell, waited

ALL_SECONDS = 540.0
"""What all benchmarks share, so that a run stays below ten minutes with its imports."""

VERSIONS = ("torch", "torchvision", "timm", "numpy")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmarks that are asked for and return the exit code.

    Args:
        argv: Words of the command line; those of this process if None.
    """
    options = _parser().parse_args(argv)
    try:
        return _run(options)
    except AutomixError as error:
        print(f"error: {error.message}; {error.hint}", file=sys.stderr)
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure speed and memory on this machine, against limits and peers.",
    )
    parser.add_argument("--only", default="", metavar="NAME,NAME", help="default: all")
    parser.add_argument("--seconds", type=float, help="for all; default: what each asks for")
    parser.add_argument("--json", metavar="FILE", help="everything as JSON; - is standard output")
    parser.add_argument("--out", type=Path, metavar="FILE", help="a Markdown page")
    return parser


def _run(options: argparse.Namespace) -> int:
    chosen = choose([name for name in options.only.split(",") if name])
    # Who asks for JSON on standard output wants nothing else there.
    stream = sys.stderr if options.json == "-" else sys.stdout
    start = time.perf_counter()
    measured = dict(measure_all(chosen, options.seconds, stream))
    sections = [section for section, _ in measured.values()]
    print(target_table(sections), file=stream)
    record = {
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
        "seconds": round(time.perf_counter() - start, 1),
        "machine": {**describe_machine(), "gpu": _gpu()},
        "benchmarks": {
            name: {"seconds": took, **asdict(section)} for name, (section, took) in measured.items()
        },
    }
    _write(options, record, page(record, sections))
    return int(any(section.failed for section in sections))


def _gpu() -> str | None:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _write(options: argparse.Namespace, record: dict[str, Any], text: str) -> None:
    if options.json == "-":
        print(json.dumps(record, indent=2, allow_nan=False))
    elif options.json:
        write_json(Path(options.json), record)
    if options.out:
        write_text(options.out, text)


# Finding and running -----------------------------------------------------------------------------


def discover(names: Collection[str] = ()) -> dict[str, ModuleType]:
    """Return the modules of ``measures`` that are benchmarks, by name; some names or all."""
    there = [name for _, name, _ in pkgutil.iter_modules(measures.__path__)]
    modules = {
        name: importlib.import_module(f"benchmarks.measures.{name}")
        for name in sorted(there)
        if name in (names or there)
    }
    return {
        name: module
        for name, module in modules.items()
        if hasattr(module, "SECONDS") and hasattr(module, "run")
    }


def choose(names: Collection[str]) -> dict[str, ModuleType]:
    """Return the named benchmarks, or all if none is named.

    Raises:
        ConfigError: If a name is unknown.
    """
    found = discover(names)
    for name in names:
        if name not in found:
            known = discover()
            raise ConfigError(
                f"{name!r} is not a benchmark.{did_you_mean(name, known)}",
                f"known: {', '.join(known)}",
            )
    return found


def measure_all(
    chosen: Mapping[str, ModuleType], seconds: float | None, stream: TextIO
) -> Iterator[tuple[str, tuple[Section, float]]]:
    """Run benchmarks one after the other and yield what each measured and its seconds.

    Each gets what it asks for, or its part of ``seconds``; less, once the time runs out.
    """
    asked = sum(module.SECONDS for module in chosen.values())
    total = seconds or min(asked, ALL_SECONDS)
    end, part = time.perf_counter() + total, total / asked
    for name, module in chosen.items():
        left = max(end - time.perf_counter(), 0.0)
        yield name, measure(name, module, module.SECONDS * min(part, left / asked), stream)
        asked -= module.SECONDS


def measure(name: str, module: ModuleType, seconds: float, stream: TextIO) -> tuple[Section, float]:
    """Run one benchmark, print it, and return it with the seconds that it took.

    One that fails is a missed target and does not stop the others.
    """
    gc.collect()
    start, before = time.perf_counter(), waited()
    try:
        section: Section = module.run(seconds)
    except Exception as error:
        traceback.print_exc()
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:80]
        failure = Target(f"{name} runs", "no error", reason, False)
        section = Section(
            title=name, about="Failed.", columns=(), rows=(), targets=[failure], failed=True
        )
    took = round(time.perf_counter() - start, 1)
    busy = f"its threads waited {waited() - before:.0f} s for a core that others had"
    print(show(section), f"({name}: {took:.0f} s; {busy})\n", sep="\n\n", file=stream, flush=True)
    return section, took


# Showing -----------------------------------------------------------------------------------------


def table(columns: Sequence[str], rows: Sequence[Row]) -> str:
    """Return a table that reads well as plain text and as Markdown; numbers stand right."""
    right = [any(isinstance(row.get(name), (int, float)) for row in rows) for name in columns]
    texts = [columns, *([cell(row.get(name)) for name in columns] for row in rows)]
    widths = [max(3, *map(len, column)) for column in zip(*texts, strict=True)]
    rule = ["-" * (width - to) + ":" * to for width, to in zip(widths, right, strict=True)]
    lines = [
        [f"{text:>{width}}" if to else f"{text:<{width}}" for text, width, to in sized]
        for sized in (zip(line, widths, right, strict=True) for line in texts)
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])


def show(section: Section) -> str:
    """Return a section as text."""
    parts = [f"## {section.title}", section.about]
    if section.rows:
        parts.append(table(section.columns, section.rows))
    if section.notes:
        parts.append("\n".join(f"- {note}" for note in section.notes))
    return "\n\n".join(parts)


def target_table(sections: Sequence[Section]) -> str:
    """Return what was wished for and what came out, over all sections."""
    rows = [
        {
            "target": target.what,
            "wanted": target.wanted,
            "measured": target.measured,
            "": "met" if target.met else "MISSED",
        }
        for section in sections
        for target in section.targets
    ]
    return "## Targets\n\n" + table(["target", "wanted", "measured", ""], rows)


def page(record: Mapping[str, Any], sections: Sequence[Section]) -> str:
    """Return the page of one run: how and where it was measured, the targets, the tables."""
    machine = record["machine"]
    versions = ", ".join(f"{name} {machine['versions'][name]}" for name in VERSIONS)
    how = (
        f"Command: `{record['command']}`, {record['seconds']:.0f} seconds. "
        f"Hardware: {machine['cpu']}, {machine['cores']} cores, {machine['gpu'] or 'no GPU'}. "
        f"Python {machine['python']}, {versions}. Commit: {machine['git']}."
    )
    return "\n\n".join(["# Performance", how, target_table(sections), *map(show, sections)]) + "\n"
