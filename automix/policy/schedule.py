"""The exported schedule: which mix at which share of the budget, and a mixer for any loop.

A schedule needs neither the agent nor the environment that it was learned in::

    mixer = load_schedule("runs/x/export").mixer(num_classes=10, epochs=epochs)
    for epoch in range(epochs):
        mixer.set_epoch(epoch)
        for images, labels in loader:
            images, targets = mixer(images, labels)
            loss = torch.nn.functional.cross_entropy(model(images), targets)

Where the net has a say in the targets, or a method makes training steps of its own
(``masks.method_steps``), ``automix.MixedLoss(net, mixer)`` returns the loss.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from automix.core.errors import ConfigError, DataError, did_you_mean
from automix.core.files import read_text, read_yaml, short, write_yaml
from automix.core.settings import Range
from automix.mixing.actions import OFF, MixAction
from automix.mixing.batch import DEFAULTS, MixSettings
from automix.policy.mixer import ScheduleMixer
from automix.policy.shipped import AGAIN, policy_folder

FORMAT = 1

TOP, END = "Which mix at which epoch, to the line of three dots.", "..."
"""How a file begins that has an end, and the end: YAML's own mark."""

SECTIONS = ("format", "about", "mix", "schedule", "by_kind")
COLUMNS = ("epoch", "method", "ratio", "saliency", "mix_probability", "label_rule")
"""Of a file, and of each row of its tables; whatever else somebody writes there is refused."""

_STATED = re.compile(
    r"([1-9]\d{0,11}(?:-[1-9]\d{0,11})?) images, (\d+(?:\.\d+)?(?:-\d+(?:\.\d+)?)?)% noise"
)
"""Kinds and cells of tasks that tell size and noise, as ``TaskSpec.kind`` and ``cell_of`` do."""


@dataclass(frozen=True)
class MixSchedule:
    """Actions in order of progress.

    Attributes:
        actions: One per epoch of the budget it was made for; stretched to any other.
        by_kind: The same for single kinds of task, where the policy treats them differently.
        settings: How its actions were carried out where it was found.
        kind: The kind of task that it is for; empty if for all.
    """

    actions: Sequence[MixAction]
    by_kind: Mapping[str, Sequence[MixAction]] = field(default_factory=dict)
    settings: MixSettings = DEFAULTS
    kind: str = ""

    def at(self, progress: float) -> MixAction:
        """Return the action for finished epochs / budget; from 1 on it is the last.

        Raises:
            ConfigError: If progress is no number, negative or not finite.
        """
        try:
            share = float(progress)
        except (TypeError, ValueError):
            share = math.nan
        if not 0 <= share < math.inf:
            raise ConfigError(
                f"progress is {short(progress)}, wanted finished epochs / budget, 0 or more",
                "set it to epoch / epochs, epoch counted from 0",
            )
        # epoch / epochs is rounded, to 7 digits if a user keeps it as float32.
        epoch = int((min(share, 1.0) + 1e-6) * len(self.actions))
        return self.actions[min(epoch, len(self.actions) - 1)]

    def for_kind(self, kind: str) -> MixSchedule:
        """Return the schedule of one kind of task.

        Raises:
            ConfigError: If the export holds none for it.
        """
        if kind not in self.by_kind:
            raise ConfigError(
                f"the schedule has no kind {kind!r}.{did_you_mean(kind, self.by_kind)}",
                f"known: {', '.join(self.by_kind) or 'none'}",
            )
        return MixSchedule(self.by_kind[kind], settings=self.settings, kind=kind)

    def nearest(self, *, train_size: int, label_noise: float = 0.0) -> MixSchedule:
        """Return the schedule of the kind of task that is most like one; its ``kind`` says which.

        Twice the images are as far as 10 % more wrong labels: the distance is ``|log2(size /
        train_size)| + 10 |noise - label_noise|``, to the nearer end where a kind spans a range, 0
        within it. The first in the file wins a tie. Kinds that are worlds, or of all images, state
        no size, and are not among the candidates.

        Args:
            train_size: Training images.
            label_noise: Share of wrong training labels, in [0, 1).

        Raises:
            ConfigError: If no kind states size and noise, or a number is out of range.
        """
        Range(least=1, whole=True).check("train_size", train_size)
        Range(least=0, below=1, hint="a share, not percent").check("label_noise", label_noise)
        stated = {kind: found for kind in self.by_kind if (found := _STATED.fullmatch(kind))}
        if not stated:
            raise ConfigError(
                "the schedule has no kinds of task of a stated size and noise",
                "take it as it is, which is for all kinds, or one of by_kind with for_kind",
            )

        def distance(kind: str) -> float:
            sizes, noises = (part.split("-") for part in stated[kind].groups())
            size = _beyond(math.log2(train_size), [math.log2(int(end)) for end in sizes])
            noise = _beyond(10 * label_noise, [float(end) / 10 for end in noises])
            return round(size + noise, 9)

        return self.for_kind(min(stated, key=distance))

    def mixer(
        self,
        num_classes: int,
        *,
        epochs: int | None = None,
        seed: int = 0,
        label_smoothing: float = 0.0,
        settings: MixSettings | None = None,
    ) -> ScheduleMixer:
        """Return a callable that mixes batches as the schedule says.

        Args:
            num_classes: Classes of the labels.
            epochs: Of the training, for ``set_epoch``; without, call ``set_progress``.
            seed: Of all draws.
            label_smoothing: Share of each label that goes to all classes alike, in [0, 1).
            settings: How actions are carried out; default as where the schedule was found.

        Raises:
            ConfigError: If a label rule of the settings does not fit an action, or its saliency is
                to be had in this project's trainer only.
        """
        return ScheduleMixer(
            self,
            num_classes,
            epochs=epochs,
            seed=seed,
            label_smoothing=label_smoothing,
            settings=settings or self.settings,
        )


def _beyond(value: float, ends: Sequence[float]) -> float:
    """Return how far a number is outside of a range, 0 within it."""
    return max(min(ends) - value, value - max(ends), 0.0)


def save_schedule(path: Path, schedule: MixSchedule, about: Mapping[str, Any]) -> None:
    """Write ``schedule.yaml``; ``about`` says where it comes from."""
    write_yaml(
        path,
        {
            "format": FORMAT,
            "about": dict(about),
            "mix": changed_settings(schedule.settings),
            "schedule": _table(schedule.actions),
            "by_kind": {kind: _table(actions) for kind, actions in schedule.by_kind.items()},
        },
        comment=f"{TOP} Read it with automix.load_schedule.",
        end=f"{END}\n",
    )


def load_schedule(path: str | Path) -> MixSchedule:
    """Read a schedule.

    Args:
        path: A ``schedule.yaml``, the export or the run that holds it, or the name of a policy that
            comes along.

    Raises:
        ConfigError: If there is no policy of that name.
        DataError: If the file is missing, of another format, or names unknown mixes.
    """
    path = policy_folder(path)
    path = path / "schedule.yaml" if path.is_dir() else path
    _check_end(path)
    content = read_yaml(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        got = short(content.get("format") if isinstance(content, dict) else content)
        raise DataError(f"{path}: format is {got}, wanted {FORMAT}", AGAIN)
    _check_names(content, SECTIONS, str(path))
    by_kind = content.get("by_kind") or {}
    if not isinstance(by_kind, dict):
        raise DataError(f"{path}: by_kind is {type(by_kind).__name__}, wanted a table")
    return MixSchedule(
        _actions(content.get("schedule"), f"{path}: schedule"),
        {str(k): _actions(rows, f"{path}: by_kind.{k}") for k, rows in by_kind.items()},
        settings_from(content.get("mix") or {}, f"{path}: mix"),
    )


def changed_settings(settings: MixSettings) -> dict[str, Any]:
    """Return the settings that are not the default, as YAML holds them."""
    values = {one.name: getattr(settings, one.name) for one in fields(settings)}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if value != getattr(DEFAULTS, name)
    }


def _check_end(path: Path) -> None:
    """Refuse a file that was cut off, which can still be a shorter schedule."""
    text = read_text(path)
    if text.lstrip("\ufeff \n").startswith(f"# {TOP}") and not text.rstrip().endswith(f"\n{END}"):
        raise DataError(
            f"{path} is cut off: the line of three dots is missing that ends it",
            "export the schedule again; if you have shortened it by hand, write the line",
        )


def settings_from(values: Any, where: str) -> MixSettings:
    """Read what ``changed_settings`` wrote.

    Raises:
        DataError: If it holds something else.
    """
    if not isinstance(values, dict):
        raise DataError(f"{where} is {type(values).__name__}, wanted a table")
    _check_names(values, [one.name for one in fields(MixSettings)], where)
    try:
        return MixSettings(**values)
    except ConfigError as error:
        raise DataError(f"{where}: {error.message}", error.hint) from None
    except TypeError as error:
        raise DataError(f"{where} holds a value of the wrong kind: {error}") from None


def _table(actions: Sequence[MixAction]) -> list[dict[str, Any]]:
    return [{"epoch": epoch} | _row(action) for epoch, action in enumerate(actions)]


def _row(action: MixAction) -> dict[str, Any]:
    row: dict[str, Any] = {
        "method": action.method,
        "ratio": action.ratio,
        "saliency": action.saliency,
    }
    # Only where it says something: files of actions that mix every batch stay as they are.
    if action.mix_probability != 1.0:
        row["mix_probability"] = action.mix_probability
    if action.label_rule:
        row["label_rule"] = action.label_rule
    return row


def _actions(rows: Any, where: str) -> list[MixAction]:
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{where} is {type(rows).__name__}, wanted a list with one entry an epoch")
    actions = []
    for number, row in enumerate(rows):
        try:
            actions.append(_action(row, number, f"{where}[{number}]"))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{where}[{number}] is not an action: {error}") from None
        except ConfigError as error:
            raise DataError(f"{where}[{number}]: {error.message}", error.hint) from None
    return actions


def _action(row: Any, number: int, where: str) -> MixAction:
    if not isinstance(row, dict):
        raise TypeError(f"{type(row).__name__} where a row was wanted")
    _check_names(row, COLUMNS, where)
    epoch = row.get("epoch", number)
    if epoch != number or isinstance(epoch, bool):
        raise DataError(
            f"{where}: epoch is {short(epoch)}, wanted {number}",
            "rows play in the order of the file, one for each epoch, from 0; a mix that lasts has "
            "a row for each of its epochs",
        )
    # YAML reads a bare off as False.
    saliency = OFF if row.get("saliency", OFF) is False else _text(row.get("saliency", OFF))
    applied = _number(row.get("mix_probability", 1.0))
    method, rule = _text(row["method"]), _text(row.get("label_rule", ""))
    return MixAction(method, _number(row["ratio"]), saliency, applied, rule)


def _check_names(table: Mapping[Any, Any], known: Sequence[str], where: str) -> None:
    for name in table:
        if name not in known:
            raise DataError(
                f"{where} holds {short(name)}.{did_you_mean(str(name), known)}",
                f"known: {', '.join(known)}",
            )


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError(f"{value} where a number was wanted")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} where a name was wanted")
    return value
