"""The files of a finished run, checked and turned into records."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from automix.core.errors import DataError
from automix.core.files import read_json, read_yaml

AGAIN = "the file was damaged or written by another version: run it again with --overwrite"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ContestantRecord:
    """One row of the comparison; accuracies are of the test split, in [0, 1]."""

    name: str
    kind: str
    iqm: float
    low: float
    """Lower end of the 95 % interval of ``iqm``."""
    high: float
    n: int
    """Trainings."""
    by_task: Mapping[str, float]
    """Mean per kind of task."""
    val_accuracy: float
    calibration_error: float | None
    diverged: int
    epochs_spent: int
    passes: int
    """Samples sent forward or backward through classifiers."""


@dataclass(frozen=True)
class Difference:
    """A paired mean difference of test accuracy with its 95 % interval."""

    mean: float
    low: float
    high: float
    p_improvement: float
    told: bool = True
    """Whether there are pairs enough to tell a difference at all."""


@dataclass(frozen=True)
class Regret:
    """Mean distance to each task's best fixed choice, with its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Oracle:
    """Regrets to the best fixed choice of each task."""

    choices: int
    """How many fixed choices it picks from."""
    hindsight: Mapping[str, Regret]
    """By contestant; the oracle is picked and scored on the same trainings."""
    cross_fitted: Mapping[str, Regret]
    """Picked on a task's other trainings; empty where there are none."""
    ratio: Regret | None
    """The agent's regret over the best fixed choice's: cross-fitted, else in hindsight."""


@dataclass(frozen=True)
class TrialRecord:
    """One training that was scored on the test split."""

    contestant: str
    task: str
    seed: int
    training: int
    """Number among the trainings of one drawn task; 0 where each task is trained once."""
    test_accuracy: float
    mixes: Sequence[str]
    """As ``MixAction`` writes them, one per epoch."""
    val_curve: Sequence[float]
    """From epoch 0 on, so one longer than ``mixes``."""
    partner_share: Sequence[float]


@dataclass(frozen=True)
class Round:
    """What the episodes of one kind of task showed between two updates of the agent."""

    episodes: int
    val_accuracy: float
    play: Mapping[str, float]
    """Share of epochs per mix; sums to 1."""


@dataclass(frozen=True)
class Update:
    """One line of ``metrics.jsonl``."""

    classifier_epochs: int
    val_accuracy: float
    by_kind: Mapping[str, Round]
    agent: Mapping[str, float]
    """Diagnostics of the learner; what it could not tell is NaN."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """All that a report is made from."""

    name: str
    config: Mapping[str, Any]
    command: str
    machine: Mapping[str, Any]
    contestants: Sequence[ContestantRecord]
    """Best first, by IQM."""
    agent_minus: Mapping[str, Difference]
    best_fixed: str | None
    """The fixed choice with the highest validation accuracy."""
    validation_tasks: int
    """Tasks that it was picked on; 0 for the compared ones."""
    draws: int
    """Held-out tasks drawn from the family, shown in cells; 0 where there are seeds of kinds."""
    oracle: Oracle | None
    found: Mapping[str, Sequence[str]]
    """The schedule that each control found."""
    tasks: Sequence[str]
    seeds: Sequence[int]
    wall_s: float
    learning: Mapping[str, float] | None
    trials: Mapping[tuple[str, str], Sequence[TrialRecord]]
    """By contestant and kind of task."""
    updates: Sequence[Update]
    """Empty if the run learned nothing."""
    explanation: Mapping[str, Any] | None = None
    """As ``automix.agents.contest.explain`` wrote it; runs of earlier versions have none."""

    def contestant(self, name: str) -> ContestantRecord | None:
        """Return the contestant of that name, if it took part."""
        return next((c for c in self.contestants if c.name == name), None)

    def scores(self, contestant: str, task: str | None = None) -> np.ndarray:
        """Return test accuracies of all tasks or of one kind or cell.

        Returns:
            (kinds, seeds), or (draws, trainings) where tasks were drawn.
        """
        rows: dict[object, list[float]] = {}
        for name in self.tasks if task is None else [task]:
            for trial in self.trials[contestant, name]:
                row = trial.seed if self.draws else name
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
    result = Reader(str(run_dir / "result.json"), read_json(run_dir / "result.json"))
    learning = result.content.get("learning")
    run = Run(
        name=run_dir.absolute().name,
        config=Reader(str(run_dir / "config.yaml"), read_yaml(run_dir / "config.yaml")).content,
        command=_text(run_dir / "command.txt").strip(),
        machine=Reader(str(run_dir / "env.json"), read_json(run_dir / "env.json")).content,
        contestants=sorted(
            (_contestant(c) for c in result.readers("contestants")), key=lambda c: -c.iqm
        ),
        agent_minus={
            name: _difference(result.reader("agent_minus").reader(name))
            for name in result.reader("agent_minus").content
        },
        best_fixed=result.content.get("best_fixed"),
        validation_tasks=_validation_tasks(result),
        draws=int(result.number("draws", 0)),
        oracle=_oracle(result.reader("oracle")) if result.content.get("oracle") else None,
        found=_found(result),
        tasks=[str(task) for task in result.sequence("tasks")],
        seeds=[int(seed) for seed in result.numbers("seeds")],
        wall_s=result.number("wall_s"),
        learning=_numbers(result.reader("learning")) if learning is not None else None,
        trials=_grouped(_lines(run_dir / "trials.jsonl", _trial)),
        updates=_updates(run_dir / "metrics.jsonl"),
        explanation=result.reader("explanation").content
        if "explanation" in result.content
        else None,
    )
    _check_fit(run, run_dir)
    return run


class Reader:
    """Takes typed values out of a mapping, and says where one is missing.

    Args:
        where: Names the mapping in messages.
        content: What was read.
    """

    def __init__(self, where: str, content: Any) -> None:
        self.where = where
        if not isinstance(content, Mapping):
            raise self._wrong(content, "keys with values")
        self.content: Mapping[str, Any] = content

    def text(self, key: str) -> str:
        """Return a string."""
        value = self._value(key)
        if not isinstance(value, str):
            raise self._wrong(value, "text", key)
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Return a finite number, or the default if there is one and the key is missing."""
        if default is not None and key not in self.content:
            return default
        value = self._value(key)
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise self._wrong(value, "a finite number", key)
        return value

    def sequence(self, key: str) -> list[Any]:
        """Return a list with one entry or more."""
        value = self._value(key)
        if not isinstance(value, list) or not value:
            raise self._wrong(value, "a list with one entry or more", key)
        return value

    def numbers(self, key: str) -> list[float]:
        """Return a list of finite numbers."""
        values = self.sequence(key)
        if not all(isinstance(v, (int, float)) and math.isfinite(v) for v in values):
            raise self._wrong(values, "a list of finite numbers", key)
        return values

    def interval(self, key: str) -> tuple[float, float]:
        """Return ``[low, high]``."""
        values = self.numbers(key)
        if len(values) != 2 or values[0] > values[1]:
            raise self._wrong(values, "[low, high]", key)
        return values[0], values[1]

    def reader(self, key: str) -> Reader:
        """Return a mapping inside this one."""
        return Reader(f"{self.where}: {key}", self._value(key))

    def readers(self, key: str) -> list[Reader]:
        """Return a list of mappings inside this one."""
        return [
            Reader(f"{self.where}: {key}[{i}]", value) for i, value in enumerate(self.sequence(key))
        ]

    def _value(self, key: str) -> Any:
        if key not in self.content:
            raise DataError(f"{self.where}: {key} is missing", AGAIN)
        return self.content[key]

    def _wrong(self, value: Any, wanted: str, key: str = "content") -> DataError:
        got = repr(value)
        short = got if len(got) <= 60 else f"{got[:60]}..."
        return DataError(f"{self.where}: {key} is {short}, wanted {wanted}", AGAIN)


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
    where = run_dir / "trials.jsonl"
    if run.best_fixed is not None and run.contestant(run.best_fixed) is None:
        raise DataError(
            f"{run_dir}/result.json: best_fixed is {run.best_fixed!r}, who did not play"
        )
    for name in run.agent_minus:
        if run.contestant(name) is None:
            raise DataError(f"{run_dir}/result.json: agent_minus names {name!r}, who did not play")
    for contestant in run.contestants:
        for task in run.tasks:
            if task not in contestant.by_task:
                raise DataError(
                    f"{run_dir}/result.json: {contestant.name}: by_task lacks {task!r}", AGAIN
                )
            trials = run.trials.get((contestant.name, task), [])
            if not run.draws and [t.seed for t in trials] != sorted(run.seeds):
                raise DataError(
                    f"{where}: {contestant.name} has {len(trials)} trials on {task!r}, "
                    f"wanted one for each of the {len(run.seeds)} seeds of result.json",
                    AGAIN,
                )
        if run.draws:
            _check_draws(run, contestant.name, where)
    epochs = {len(trial.mixes) for trials in run.trials.values() for trial in trials}
    if len(epochs) > 1:
        raise DataError(f"{where}: trials have {sorted(epochs)} epochs, wanted one number", AGAIN)


def _check_draws(run: Run, name: str, where: Path) -> None:
    """Check that a contestant trained each drawn task equally often, once or more."""
    tasks = [run.trials.get((name, task), []) for task in run.tasks]
    each = Counter(trial.seed for trials in tasks for trial in trials)
    if sorted(each) != sorted(run.seeds) or len(set(each.values())) > 1:
        raise DataError(
            f"{where}: {name} has {each.total()} trials of {len(each)} tasks, wanted equally many "
            f"of each of the {len(run.seeds)} tasks of result.json",
            AGAIN,
        )


def _validation_tasks(result: Reader) -> int:
    picked = result.content.get("best_fixed_picked")
    return int(result.reader("best_fixed_picked").number("tasks")) if picked else 0


def _found(result: Reader) -> dict[str, list[str]]:
    if not result.content.get("found"):
        return {}
    found = result.reader("found")
    return {name: [str(mix) for mix in found.sequence(name)] for name in found.content}


def _oracle(reader: Reader) -> Oracle:
    hindsight = reader.reader("hindsight")
    fair = reader.reader("cross_fitted") if reader.content.get("cross_fitted") else None
    main = fair or hindsight
    return Oracle(
        choices=int(reader.number("choices")),
        hindsight=_regrets(hindsight),
        cross_fitted=_regrets(fair) if fair else {},
        ratio=_regret(main.reader("ratio")) if main.content.get("ratio") else None,
    )


def _regrets(form: Reader) -> dict[str, Regret]:
    regret = form.reader("regret")
    return {name: _regret(regret.reader(name)) for name in regret.content}


def _regret(reader: Reader) -> Regret:
    low, high = reader.interval("ci95")
    return Regret(reader.number("mean"), low, high)


def _contestant(reader: Reader) -> ContestantRecord:
    low, high = reader.interval("ci95")
    error = reader.number("ece", math.inf)
    tasks = reader.reader("by_task")
    return ContestantRecord(
        name=reader.text("name"),
        kind=reader.text("kind"),
        iqm=reader.number("iqm"),
        low=low,
        high=high,
        n=int(reader.number("n")),
        by_task={task: tasks.number(task) for task in tasks.content},
        val_accuracy=reader.number("val_accuracy"),
        calibration_error=error if math.isfinite(error) else None,
        diverged=int(reader.number("diverged", 0)),
        epochs_spent=int(reader.number("epochs_spent")),
        passes=int(reader.number("passes")),
    )


def _difference(reader: Reader) -> Difference:
    low, high = reader.interval("ci95")
    return Difference(reader.number("mean"), low, high, reader.number("p_improvement"))


def _numbers(reader: Reader) -> dict[str, float]:
    return {key: reader.number(key) for key in reader.content}


def _trial(reader: Reader) -> TrialRecord:
    trial = TrialRecord(
        contestant=reader.text("contestant"),
        task=reader.text("task"),
        seed=int(reader.number("seed")),
        training=int(reader.number("training", 0)),
        test_accuracy=reader.number("test_accuracy"),
        mixes=[str(mix) for mix in reader.sequence("mixes")],
        val_curve=reader.numbers("val_curve"),
        partner_share=reader.numbers("partner_share"),
    )
    epochs = len(trial.mixes)
    if len(trial.partner_share) != epochs or len(trial.val_curve) != epochs + 1:
        raise DataError(
            f"{reader.where}: {epochs} mixes, {len(trial.partner_share)} partner shares and "
            f"{len(trial.val_curve)} validation accuracies, wanted n, n and n + 1",
            AGAIN,
        )
    return trial


def _grouped(trials: Sequence[TrialRecord]) -> dict[tuple[str, str], list[TrialRecord]]:
    """Group by contestant and kind of task, each in order of seeds."""
    groups: dict[tuple[str, str], list[TrialRecord]] = defaultdict(list)
    for trial in sorted(trials, key=lambda trial: (trial.seed, trial.training)):
        groups[trial.contestant, trial.task].append(trial)
    return dict(groups)


def _updates(path: Path) -> list[Update]:
    """Return the learning record; a run that only compares has none."""
    return _lines(path, _update) if path.is_file() else []


def _update(reader: Reader) -> Update:
    kinds = reader.reader("by_kind")
    return Update(
        classifier_epochs=int(reader.number("classifier_epochs")),
        val_accuracy=reader.number("val_accuracy"),
        by_kind={kind: _round(kinds.reader(kind)) for kind in kinds.content},
        agent={
            key: float(value) if isinstance(value, (int, float)) else math.nan
            for key, value in reader.reader("agent").content.items()
        },
    )


def _round(reader: Reader) -> Round:
    play = reader.reader("play")
    return Round(
        episodes=int(reader.number("episodes")),
        val_accuracy=reader.number("val_accuracy"),
        play={mix: play.number(mix) for mix in play.content},
    )


def _lines(path: Path, parse: Callable[[Reader], T]) -> list[T]:
    """Read a file of JSON lines.

    Raises:
        DataError: If a line is not JSON or lacks something; the line is named.
    """
    return [parse(Reader(where, content)) for where, content in _json_lines(path)]


def _json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(_text(path).splitlines(), start=1):
        try:
            yield f"{path}:{number}", json.loads(line)
        except ValueError:
            raise DataError(f"{path}:{number} is not JSON: {line[:60]!r}", AGAIN) from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}", AGAIN) from None
