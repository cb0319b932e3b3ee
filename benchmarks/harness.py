"""What a benchmark is made of: a record of what was measured, and a fair clock.

A benchmark is a module of ``benchmarks/measures`` with a docstring and two names::

    SECONDS = 40.0   # its part of the ten minutes that all of them may take

    def run(seconds: float) -> Section: ...   # measures for about so long
"""

from __future__ import annotations

import math
import statistics
import timeit
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils.benchmark import timer

SAMPLE_SECONDS = 1e-4
"""Calls that take less are timed in groups, so that the clock weighs little."""

TURN_SECONDS = 2e-3
"""A case is timed as often in a turn as fits, so that the cache that it finds weighs little."""

Case = TypeVar("Case", bound=Hashable)
Row = Mapping[str, Any]
StepResult = tuple[float, list[float]]
"""Seconds of waiting for a core per second, and the samples."""


@dataclass(frozen=True)
class Target:
    """What was wished for, and what came out."""

    what: str
    wanted: str
    measured: str
    met: bool

    @classmethod
    def of(
        cls,
        what: str,
        figures: Mapping[str, float],
        *,
        at_most: float | None = None,
        at_least: float | None = None,
        unit: str = "",
    ) -> Target:
        """Judge figures by the worst; without any the target is missed.

        Args:
            what: A few words.
            figures: From the name of what was measured to its figure.
            at_most: The bound that no figure may be above.
            at_least: The bound that no figure may be below, if it is this side that counts.
            unit: Of the figures.
        """
        low = -math.inf if at_least is None else at_least
        high = math.inf if at_most is None else at_most
        wanted = f"at least {low:g}" if at_most is None else f"at most {high:g}"
        wanted = f"{wanted} {unit}".strip()
        if not figures:
            return cls(what, wanted, "nothing was measured", False)
        worst = (min if at_most is None else max)(figures, key=lambda name: figures[name])
        within = sum(low <= figure <= high for figure in figures.values())
        measured = f"{cell(figures[worst])} {unit}".strip()
        if len(figures) > 1:
            measured += f" at worst ({worst}); {within} of {len(figures)} meet it"
        return cls(what, wanted, measured, bool(within == len(figures)))


@dataclass(frozen=True, kw_only=True)
class Section:
    """What one benchmark measured.

    Attributes:
        title: A few words.
        about: One line: what is measured, and against what.
        columns: Heads of the table, with units.
        rows: One mapping a row, from column to text, number or None; a column may be left out.
        targets: What was to be shown.
        notes: What a reader has to know beside the table, one line each.
        failed: Whether the benchmark broke off; only the command sets it.
    """

    title: str
    about: str
    columns: Sequence[str]
    rows: Sequence[Row]
    targets: Sequence[Target] = ()
    notes: Sequence[str] = ()
    failed: bool = False

    def __post_init__(self) -> None:
        for row in self.rows:
            if unknown := set(row) - set(self.columns):
                raise ValueError(f"{self.title}: no column for {', '.join(sorted(unknown))}")
            if any(isinstance(value, float) and not math.isfinite(value) for value in row.values()):
                raise ValueError(f"{self.title}: not a finite number in {dict(row)}")


def cell(value: Any) -> str:
    """Return what is shown of a value: three figures of a fraction, nothing of None."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)


def waited() -> float:
    """Return the seconds that threads of this process stood in line for a core, added up.

    They grow when others use the machine. Zero where Linux does not tell.
    """
    total = 0
    for task in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError, IndexError):  # a thread may end meanwhile
            total += int(task.read_text().split()[1])
    return total / 1e9


def interleaved(
    cases: Mapping[Case, Callable[[], object]],
    seconds: float,
    *,
    at_least: int = 3,
    clock: Callable[[], float] = timer,
    waiting: Callable[[], float] = waited,
) -> dict[Case, float]:
    """Return the median seconds of one call of each case, the cases taking turns.

    A shared machine has slow spells. Measured one after the other, the case that met one would
    look slow, and a ratio of two cases would be luck; when they take turns, in a new order each
    round, a spell hits all of them alike. Worse are stalls: some milliseconds in which a thread
    waits for a core, and the rest of a parallel loop for the thread. So samples are short, and
    turns with much waiting do not count while there are better ones. ``torch.utils.benchmark``
    measures one after the other and in long blocks, so only its clock is taken from there: it
    waits for the accelerator, if there is one.

    Args:
        cases: What to call, by any name.
        seconds: Time for everything, first calls included; these do not count.
        at_least: Rounds that are made even if the time is over.
        clock: Returns seconds.
        waiting: Returns the seconds of waiting for a core so far.
    """
    start = clock()
    timers = {name: timeit.Timer(call, timer=clock) for name, call in cases.items()}
    plans = {name: _plan(one) for name, one in timers.items()}
    turns: dict[Case, list[StepResult]] = {name: [] for name in timers}
    names, rng, rounds, last = list(timers), np.random.default_rng(0), 0, 0.0
    while rounds < at_least or clock() - start + last <= seconds:
        begun = clock()
        for name in (names[at] for at in rng.permutation(len(names))):
            repeat, calls = plans[name]
            before = waiting()
            took = timers[name].repeat(repeat, calls)
            share = (waiting() - before) / max(sum(took), 1e-9)
            turns[name].append((share, [each / calls for each in took]))
        rounds, last = rounds + 1, clock() - begun
    return {name: _median(each) for name, each in turns.items()}


def _median(turns: Sequence[StepResult]) -> float:
    """Return the median of the undisturbed turns, or of the least disturbed quarter."""
    bound = max(0.01, float(np.quantile([share for share, _ in turns], 0.25)))
    return statistics.median(
        sample for share, samples in turns if share <= bound for sample in samples
    )


def _plan(one: timeit.Timer) -> tuple[int, int]:
    """Return how many samples a turn has, and how many calls a sample."""
    first = one.timeit(1)
    # A first call may also load and allocate: where that can matter, a second one is asked.
    took = max(one.timeit(1) if first < 100 * TURN_SECONDS else first, 1e-6)
    calls = max(1, round(SAMPLE_SECONDS / took))
    return max(1, round(TURN_SECONDS / (took * calls))), calls


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use so many threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
