"""The files of a finished run, checked and turned into records."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import AfterValidator, BeforeValidator, FiniteFloat, TypeAdapter, ValidationError

from automix.core.errors import DataError
from automix.core.files import read_text, read_yaml

AGAIN = "the file was damaged or written by another version: run it again with --overwrite"

T = TypeVar("T")


def _not_empty(values: list[T]) -> list[T]:
    if not values:
        raise ValueError("a list with one entry or more")
    return values


def _interval(values: list[float]) -> list[float]:
    if len(values) != 2 or values[0] > values[1]:
        raise ValueError("[low, high]")
    return values


Some = Annotated[list[T], AfterValidator(_not_empty)]
Interval = Annotated[list[FiniteFloat], AfterValidator(_interval)]
"""``[low, high]``, the ends of a 95 % interval."""

Diagnostic = Annotated[
    float, BeforeValidator(lambda value: value if isinstance(value, (int, float)) else math.nan)
]
"""A figure of the learner; NaN where it has none."""


@dataclass(frozen=True, kw_only=True)
class WithInterval:
    """Something estimated, with its 95 % interval."""

    ci95: Interval

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.ci95[0]

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.ci95[1]


@dataclass(frozen=True, kw_only=True)
class Estimate(WithInterval):
    """A mean, such as the distance to each task's best fixed choice."""

    mean: FiniteFloat


@dataclass(frozen=True, kw_only=True)
class Difference(Estimate):
    """A paired mean difference of test accuracy."""

    p_improvement: FiniteFloat
    enough: bool = True
    """Whether there are enough pairs for any outcome to be significant."""


@dataclass(frozen=True, kw_only=True)
class ContestantRecord(WithInterval):
    """One row of the comparison; accuracies are of the test split, in [0, 1]."""

    name: str
    kind: str
    iqm: FiniteFloat
    n: int
    """Training runs."""
    by_task: dict[str, FiniteFloat]
    """Mean per kind of task."""
    val_accuracy: FiniteFloat
    ece: FiniteFloat | None = None
    """Expected calibration error."""
    diverged: int = 0
    epochs_spent: int
    passes: int
    """Samples sent forward or backward through classifiers."""


@dataclass(frozen=True)
class Regrets:
    """Distances to the best fixed choice of each task."""

    regret: dict[str, Estimate]
    """By contestant."""
    ratio: Estimate | None = None
    """The agent's regret over the best fixed choice's."""


@dataclass(frozen=True)
class Oracle:
    """Regrets to the best fixed choice of each task."""

    choices: int
    """How many fixed choices it picks from."""
    hindsight: Regrets
    """Picked and scored on the same training runs."""
    cross_fitted: Regrets | None = None
    """Picked on a task's other training runs, where there are any."""


@dataclass(frozen=True)
class Images:
    """What a run was about, as ``TaskFamily.tell`` wrote it."""

    name: str
    loaded: str
    warnings: list[str]


@dataclass(frozen=True)
class Picked:
    """How the best fixed choice was picked."""

    tasks: int
    """Validation tasks of its own; 0 for the compared ones."""


@dataclass(frozen=True, kw_only=True)
class WorldRow:
    """One world of a suite; accuracies are of the test split, in [0, 1]."""

    world: str
    tasks: int
    n: int
    """Paired training runs."""
    none: FiniteFloat | None = None
    best_fixed: FiniteFloat | None = None
    agent: FiniteFloat | None = None
    agent_minus_none: Estimate | None = None
    harmed: bool | None = None
    """Whether the agent is surely below no mixing; None with too few training runs."""


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One training run that was scored on the test split."""

    contestant: str
    task: str
    train_size: int = 0
    label_noise: float = 0.0
    seed: int
    training: int = 0
    """Number among the training runs of one drawn task; 0 where each task has one."""
    test_accuracy: FiniteFloat
    mixes: Some[str]
    """As ``MixAction`` writes them, one per epoch."""
    val_curve: Some[FiniteFloat]
    """At the measured epochs."""
    partner_share: Some[FiniteFloat]
    """Between one measured epoch and the next."""
    measured: Sequence[int] = ()
    """After how many epochs it was measured, from 0 on; empty in older files: after each."""

    def __post_init__(self) -> None:
        measured = list(self.measured) or list(range(len(self.mixes) + 1))
        object.__setattr__(self, "measured", measured)
        if [measured[0], measured[-1]] != [0, len(self.mixes)] or (
            len(measured) != len(self.val_curve) or len(measured) != len(self.partner_share) + 1
        ):
            raise ValueError(
                f"mixes of n epochs, measured from 0 to n at m + 1 of them, m + 1 validation "
                f"accuracies and m partner shares, not {len(self.mixes)} mixes, measured "
                f"{measured[0]} to {measured[-1]} at {len(measured)}, {len(self.val_curve)} and "
                f"{len(self.partner_share)}"
            )

    @property
    def partner_by_epoch(self) -> np.ndarray:
        """The partner share of each epoch, as far as it was measured by itself, (epochs,)."""
        return np.repeat(self.partner_share, np.diff(self.measured))


@dataclass(frozen=True)
class Round:
    """What the episodes of one kind of task showed between two updates of the agent."""

    episodes: int
    val_accuracy: FiniteFloat
    play: dict[str, FiniteFloat]
    """Share of epochs per mix; sums to 1."""


@dataclass(frozen=True)
class Update:
    """One line of ``metrics.jsonl``."""

    classifier_epochs: int
    val_accuracy: FiniteFloat
    by_kind: dict[str, Round]
    agent: dict[str, Diagnostic]


@dataclass(frozen=True, kw_only=True)
class Result:
    """The content of ``result.json``, as ``automix.agents.contest.summary`` wrote it."""

    contestants: Some[ContestantRecord]
    agent_minus: dict[str, Difference]
    best_fixed: str | None = None
    """The fixed choice with the highest validation accuracy."""
    best_fixed_picked: Picked | None = None
    draws: int = 0
    """Held-out tasks drawn from the family, shown in cells; 0 where there are seeds of kinds."""
    oracle: Oracle | None = None
    found: dict[str, Some[str]] = field(default_factory=dict)
    """The schedule that each control found."""
    tasks: Some[str]
    seeds: Some[int]
    worlds: list[WorldRow] = field(default_factory=list)
    """Of a suite, which are its ``tasks`` then."""
    agent_minus_over_worlds: dict[str, Estimate] = field(default_factory=dict)
    scope: dict[str, Any] | None = None
    """As ``automix.agents.learning.scope`` wrote it."""
    wall_s: FiniteFloat
    images: list[Images] = field(default_factory=list)
    """What was loaded, by set; runs of earlier versions do not tell."""
    learning: dict[str, FiniteFloat] | None = None
    explanation: dict[str, Any] | None = None
    """As ``automix.agents.contest.explain`` wrote it; runs of earlier versions have none."""


@dataclass(frozen=True, kw_only=True)
class Run(Result):
    """All that a report is made from; contestants are sorted, best IQM first."""

    name: str
    config: Mapping[str, Any]
    command: str
    machine: Mapping[str, Any]
    trials: Mapping[tuple[str, str], Sequence[TrialRecord]]
    """By contestant and kind of task."""
    updates: Sequence[Update]
    """Empty if the run learned nothing."""

    def contestant(self, name: str) -> ContestantRecord | None:
        """Return the contestant of that name, if it took part."""
        return next((c for c in self.contestants if c.name == name), None)

    @property
    def agent(self) -> str | None:
        """Name of the agent, if one took part."""
        return next((c.name for c in self.contestants if c.kind == "agent"), None)

    def scores(self, contestant: str, task: str | None = None) -> np.ndarray:
        """Return test accuracies of all tasks or of one kind or cell.

        Returns:
            (kinds, seeds), or (draws, training runs) where tasks were drawn.
        """
        rows: dict[object, list[float]] = {}
        for name in self.tasks if task is None else [task]:
            for trial in self.trials[contestant, name]:
                kind = (name, trial.train_size, trial.label_noise)
                row = trial.seed if self.draws else kind
                rows.setdefault(row, []).append(trial.test_accuracy)
        return np.array(list(rows.values()))

    @property
    def pairs(self) -> int:
        """How many independent pairs each comparison rests on."""
        return self.draws or len(self.seeds)

    def setting(self, *path: str) -> Any:
        """Return one value of the configuration, or None where there is none."""
        value: Any = self.config
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value


def read_run(run_dir: Path) -> Run:
    """Read a run directory.

    Raises:
        DataError: If a file is missing, is damaged, or does not fit the others.
    """
    _check_complete(run_dir)
    where = run_dir / "result.json"
    result = parsed(Result, _text(where), str(where))
    result.contestants.sort(key=lambda contestant: -contestant.iqm)
    config, machine = run_dir / "config.yaml", run_dir / "env.json"
    run = Run(
        **vars(result),
        name=run_dir.absolute().name,
        config=checked(dict[str, Any], read_yaml(config), str(config)),
        command=_text(run_dir / "command.txt").strip(),
        machine=parsed(dict[str, Any], _text(machine), str(machine)),
        trials=_grouped(_lines(run_dir / "trials.jsonl", TrialRecord)),
        updates=_lines(run_dir / "metrics.jsonl", Update),
    )
    _check_fit(run, run_dir)
    return run


# Parsing -----------------------------------------------------------------------------------------


def parsed(wanted: type[T], text: str, where: str) -> T:
    """Return what a JSON document holds; numbers are numbers there, and text is text.

    Args:
        wanted: A dataclass, or another type that pydantic knows.
        text: The document.
        where: Names it in messages.

    Raises:
        DataError: If something is missing or has another type; the line names the key.
    """
    try:
        return _adapter(wanted).validate_json(text, strict=True)
    except ValidationError as error:
        raise _explained(error, where) from None


def checked(wanted: type[T], content: Any, where: str) -> T:
    """Return the same of content that is read already."""
    try:
        return _adapter(wanted).validate_python(content)
    except ValidationError as error:
        raise _explained(error, where) from None


_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)


def _explained(error: ValidationError, where: str) -> DataError:
    """Say where the first thing is that is wrong, what it is, and what was wanted."""
    first = error.errors(include_url=False)[0]
    key = "".join(f"[{at}]" if isinstance(at, int) else f".{at}" for at in first["loc"])
    got = repr(first["input"])
    short = got if len(got) <= 60 else f"{got[:60]}..."
    if first["type"] == "json_invalid":
        return DataError(f"{where} is not JSON: {short}", AGAIN)
    if first["type"] == "missing":
        return DataError(f"{where}: {key[1:]} is missing", AGAIN)
    wanted = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return DataError(f"{where}: {key[1:] or 'content'} is {short}, wanted {wanted}", AGAIN)


def _lines(path: Path, wanted: type[T]) -> list[T]:
    """Read a file of JSON lines; a run that only compares has no learning record."""
    lines = _text(path).splitlines() if path.is_file() else []
    return [parsed(wanted, line, f"{path}:{number}") for number, line in enumerate(lines, 1)]


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except DataError as error:
        raise DataError(error.message, AGAIN) from None


def _grouped(trials: Sequence[TrialRecord]) -> dict[tuple[str, str], list[TrialRecord]]:
    """Group by contestant and kind of task, each in order of seeds."""
    groups: dict[tuple[str, str], list[TrialRecord]] = defaultdict(list)
    for trial in sorted(trials, key=lambda trial: (trial.seed, trial.training)):
        groups[trial.contestant, trial.task].append(trial)
    return dict(groups)


# What fits together ------------------------------------------------------------------------------


def _check_complete(run_dir: Path) -> None:
    """Check that the files are there."""
    if not run_dir.is_dir():
        raise DataError(
            f"{run_dir} is not a directory", "give a run directory, such as runs/<name>"
        )
    if not (run_dir / "result.json").is_file():
        raise DataError(
            f"{run_dir} has no result.json",
            "wait until the run has finished, or run `python run.py compare` first",
        )
    for name in ("config.yaml", "command.txt", "env.json", "trials.jsonl"):
        if not (run_dir / name).is_file():
            raise DataError(f"{run_dir} has no {name}", "a part of the run is lost: run it again")


def _check_fit(run: Run, run_dir: Path) -> None:
    """Check that result and trials speak of the same contestants, tasks and epochs."""
    result, where = run_dir / "result.json", run_dir / "trials.jsonl"
    for key, names in (("best_fixed", [run.best_fixed]), ("agent_minus", run.agent_minus)):
        for name in names:
            if name is not None and run.contestant(name) is None:
                raise DataError(f"{result}: {key} names {name!r}, which is no contestant", AGAIN)
    for contestant in run.contestants:
        for task in run.tasks:
            if task not in contestant.by_task:
                raise DataError(f"{result}: {contestant.name}: by_task lacks {task!r}", AGAIN)
            trials = run.trials.get((contestant.name, task), [])
            kinds = len({(trial.train_size, trial.label_noise) for trial in trials}) or 1
            wanted = sorted([*run.seeds] * kinds)
            if not run.draws and [t.seed for t in trials] != wanted:
                raise DataError(
                    f"{where}: {contestant.name} has {len(trials)} trials on {task!r}, "
                    f"wanted one for each of the {len(run.seeds)} seeds of result.json",
                    AGAIN,
                )
        if run.draws:
            _check_draws(run, contestant.name, where)
    for task in run.tasks:
        own = [t for (_, of), trials in run.trials.items() if of == task for t in trials]
        epochs = {len(trial.mixes) for trial in own}
        if len(epochs) > 1:
            raise DataError(
                f"{where}: trials of {task!r} have {sorted(epochs)} epochs, wanted one number",
                AGAIN,
            )


def _check_draws(run: Run, name: str, where: Path) -> None:
    """Check that a contestant trained on each drawn task equally often, once or more."""
    tasks = [run.trials.get((name, task), []) for task in run.tasks]
    each = Counter(trial.seed for trials in tasks for trial in trials)
    if sorted(each) != sorted(run.seeds) or len(set(each.values())) > 1:
        raise DataError(
            f"{where}: {name} has {each.total()} trials of {len(each)} tasks, wanted equally many "
            f"of each of the {len(run.seeds)} tasks of result.json",
            AGAIN,
        )
