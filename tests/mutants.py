"""A mistake made on purpose, and how to let the packages run it.

A mutant is a piece of source text and what replaces it. The functions of its module run the
changed code while the check runs, and the check must fail with an AssertionError. Those of the
core are in ``test_mutants.py``; a method's own are a list ``MUTANTS`` in its test file.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType


@dataclass(frozen=True)
class Mutant:
    """A mistake and the check that finds it."""

    mistake: str
    module: str
    old: str
    new: str
    found_by: Callable
    """A check or law of the contract, or a test of the method's file."""


@contextmanager
def mutated(mutant: Mutant) -> Iterator[None]:
    """Let the functions of a module run the mutant's code."""
    module = importlib.import_module(mutant.module)
    source = inspect.getsource(module)
    assert source.count(mutant.old) == 1, f"{mutant.module} has changed: update {mutant.mistake!r}"
    code = compile(source.replace(mutant.old, mutant.new), str(module.__file__), "exec")
    changed = {part.co_qualname: part for part in codes_within(code)}
    originals = {function: function.__code__ for function in functions_of(module)}
    try:
        for function in originals:
            if function.__qualname__ in changed:
                function.__code__ = changed[function.__qualname__]
        forget_cached_results(module)
        yield
    finally:
        for function, original in originals.items():
            function.__code__ = original
        forget_cached_results(module)


def codes_within(code: CodeType) -> Iterator[CodeType]:
    """Yield the code of each function and method."""
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield part
            yield from codes_within(part)


def functions_of(module: ModuleType) -> Iterator[FunctionType]:
    """Yield the functions of a module and the methods of its classes."""
    for value in vars(module).values():
        if getattr(value, "__module__", None) != module.__name__:
            continue
        for part in vars(value).values() if isinstance(value, type) else [inspect.unwrap(value)]:
            if isinstance(part, FunctionType):
                yield part


def forget_cached_results(module: ModuleType) -> None:
    for value in vars(module).values():
        if hasattr(value, "cache_clear"):
            value.cache_clear()
