"""Many cases of one fact in one test, whose failure names the case."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def named(*case: object) -> Iterator[None]:
    """Say in a failure inside which case it was."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"case: {' '.join(map(str, case))}")
        raise


def each(names: str, values: Iterable[Any]) -> Callable[[Callable], Callable]:
    """Run a test with each value in turn, all as one item; a failure says which case it was.

    For cases that are one fact and quick; what is slow, or a thing of its own, is an item of its
    own: ``pytest.mark.parametrize``. Each case has a ``monkeypatch``, a ``tmp_path`` and a
    log of its own; other fixtures are shared by all cases.

    Args:
        names: The arguments, as ``parametrize`` takes them: "one" or "one, other".
        values: A value, or one for each name, for every case.
    """
    keys = tuple(name.strip() for name in names.split(","))
    cases = list(values)
    assert cases, f"no case of {names}"

    def decorate(test: Callable) -> Callable:
        @functools.wraps(test)
        def run(**fixtures: Any) -> None:
            for number, value in enumerate(cases):
                arguments = dict(zip(keys, value if len(keys) > 1 else (value,), strict=True))
                with named(arguments), pytest.MonkeyPatch.context() as patch:
                    test(**own(fixtures, number, patch), **arguments)

        run.__signature__ = without(inspect.signature(test), keys)  # type: ignore[attr-defined]
        return run

    return decorate


def own(fixtures: dict[str, Any], number: int, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Give a case those fixtures of its own that it changes."""
    fixtures = dict(fixtures)
    if "monkeypatch" in fixtures:
        fixtures["monkeypatch"] = patch
    if "caplog" in fixtures:
        fixtures["caplog"].clear()
    if "tmp_path" in fixtures:
        fixtures["tmp_path"] = Path(fixtures["tmp_path"]) / f"case{number}"
        fixtures["tmp_path"].mkdir()
    return fixtures


def without(signature: inspect.Signature, names: tuple[str, ...]) -> inspect.Signature:
    left = [part for name, part in signature.parameters.items() if name not in names]
    assert len(left) + len(names) == len(signature.parameters), f"{names} of {signature}"
    return signature.replace(parameters=left)
