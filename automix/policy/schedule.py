"""The exported schedule: which mix at which share of the budget, and a mixer for any loop.

A schedule needs neither the agent nor the environment that it was learned in::

    mixer = load_schedule("runs/x/export").mixer(num_classes=10)
    for epoch in range(epochs):
        mixer.set_progress(epoch / epochs)
        for images, labels in loader:
            images, targets = mixer(images, labels)
            loss = torch.nn.functional.cross_entropy(model(images), targets)

Methods that make training steps of their own (``masks.method_steps``) mix no batches: a schedule
that plays some is asked for its actions, ``schedule.at(epoch / epochs)``, and
``automix.mixing.loss.loss_of`` for the loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from automix.core.errors import ConfigError, DataError, did_you_mean
from automix.core.files import read_yaml, short, write_yaml
from automix.core.seeding import generator
from automix.mixing.actions import OFF, MixAction
from automix.mixing.batch import DEFAULTS, Mixed, MixSettings, check_action, check_mask, mix_batch
from automix.saliency import Classifier, check_alone

FORMAT = 1


@dataclass(frozen=True)
class MixSchedule:
    """Actions in order of progress.

    Attributes:
        actions: One per epoch of the budget it was made for; stretched to any other.
        by_kind: The same for single kinds of task, where the policy treats them differently.
        settings: How its actions were carried out where it was found.
    """

    actions: Sequence[MixAction]
    by_kind: Mapping[str, Sequence[MixAction]] = field(default_factory=dict)
    settings: MixSettings = DEFAULTS

    def at(self, progress: float) -> MixAction:
        """Return the action for finished epochs / budget.

        Raises:
            ConfigError: If progress is not in [0, 1): the schedule knows no epoch beyond.
        """
        if not 0 <= progress < 1:
            raise ConfigError(
                f"progress is {progress:g}, wanted finished epochs / budget, from 0 to below 1",
                "a schedule ends with its budget: set progress to epoch / epochs, epoch from 0",
            )
        # epoch / epochs is rounded, to 7 digits if a user keeps it as float32.
        epoch = int((progress + 1e-6) * len(self.actions))
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
        return MixSchedule(self.by_kind[kind], settings=self.settings)

    def mixer(
        self, num_classes: int, seed: int = 0, settings: MixSettings | None = None
    ) -> ScheduleMixer:
        """Return a callable that mixes batches as the schedule says.

        Args:
            num_classes: Classes of the labels.
            seed: Of all draws.
            settings: How actions are carried out; default as where the schedule was found.

        Raises:
            ConfigError: If a label rule of the settings does not fit an action, its saliency is to
                be had in this project's trainer only, or its method is a training step of its own.
        """
        return ScheduleMixer(self, num_classes, seed, settings or self.settings)


class ScheduleMixer:
    """Mixes the batches of a training loop.

    Args:
        schedule: What to play when.
        num_classes: Classes of the labels.
        seed: Of all draws.
        settings: How actions are carried out.

    Raises:
        ConfigError: If one of the actions cannot be carried out so, at whatever epoch it comes.
    """

    def __init__(
        self, schedule: MixSchedule, num_classes: int, seed: int, settings: MixSettings
    ) -> None:
        self._schedule, self._num_classes, self._settings = schedule, num_classes, settings
        for action in schedule.actions:
            check_action(action, settings)
            _check_mask(action)
            if action.saliency != OFF:
                check_alone(action.saliency)
        self._rng = generator(seed, "schedule mixer")
        self.action = schedule.at(0.0)

    def set_progress(self, progress: float) -> None:
        """Tell the share of the budget that is spent; call it at the start of each epoch."""
        self.action = self._schedule.at(progress)

    def __call__(
        self, images: Tensor, labels: Tensor, classifier: Classifier | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mix a batch.

        Args:
            images: (b, c, h, w) float; not modified.
            labels: (b,) int classes or (b, k) probabilities.
            classifier: images -> logits, where the schedule uses a saliency that needs it.

        Returns:
            Mixed images, and targets (b, k) for a soft-target cross-entropy. Where the label rule
            lets the classifier have a say, ask ``mixed`` instead: here it has none.
        """
        mixed = self.mixed(images, labels, classifier)
        return mixed.images, mixed.targets

    def mixed(self, images: Tensor, labels: Tensor, classifier: Classifier | None = None) -> Mixed:
        """Mix a batch, as a call does; return all there is to know of it.

        The classifier has its say in the targets by ``revised``, if that is not None::

            if mixed.revised is None:
                logits, targets = model(mixed.images), mixed.targets
            else:
                logits, targets = mixed.revised.asked(model, mixed.images, slice(None))
        """
        return mix_batch(
            images,
            labels,
            self.action,
            num_classes=self._num_classes,
            rng=self._rng,
            classifier=classifier,
            settings=self._settings,
        )


def _check_mask(action: MixAction) -> None:
    """Refuse what no mixer of batches can do, before the epoch comes that would."""
    try:
        check_mask(action)
    except ConfigError as error:
        raise ConfigError(
            f"the schedule plays {action}, and {error.message}",
            "ask automix.mixing.loss.loss_of(net, images, labels, schedule.at(progress), ..., "
            "settings=schedule.settings) for the loss: it plays every action",
        ) from None


def save_schedule(path: Path, schedule: MixSchedule, about: Mapping[str, Any]) -> None:
    """Write ``schedule.yaml``; ``about`` says where it comes from."""
    write_yaml(
        path,
        {
            "format": FORMAT,
            "about": dict(about),
            "mix": _changed(schedule.settings),
            "schedule": _table(schedule.actions),
            "by_kind": {kind: _table(actions) for kind, actions in schedule.by_kind.items()},
        },
        comment="Which mix at which epoch. Read it with automix.load_schedule.",
    )


def load_schedule(path: str | Path) -> MixSchedule:
    """Read ``schedule.yaml``, or the export folder that holds it.

    Raises:
        DataError: If the file is missing, of another format, or names unknown mixes.
    """
    path = Path(path)
    path = path / "schedule.yaml" if path.is_dir() else path
    content = read_yaml(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        got = short(content.get("format") if isinstance(content, dict) else content)
        raise DataError(f"{path}: format is {got}, wanted {FORMAT}", "export the policy again")
    by_kind = content.get("by_kind") or {}
    if not isinstance(by_kind, dict):
        raise DataError(f"{path}: by_kind is {type(by_kind).__name__}, wanted a table")
    return MixSchedule(
        _actions(content.get("schedule"), f"{path}: schedule"),
        {str(k): _actions(rows, f"{path}: by_kind.{k}") for k, rows in by_kind.items()},
        _settings(content.get("mix") or {}, f"{path}: mix"),
    )


def _changed(settings: MixSettings) -> dict[str, Any]:
    """Return the settings that are not the default, as YAML holds them."""
    values = {one.name: getattr(settings, one.name) for one in fields(settings)}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if value != getattr(DEFAULTS, name)
    }


def _settings(values: Any, where: str) -> MixSettings:
    if not isinstance(values, dict):
        raise DataError(f"{where} is {type(values).__name__}, wanted a table")
    known = [one.name for one in fields(MixSettings)]
    for name in values:
        if name not in known:
            raise DataError(f"{where} holds {name!r}.{did_you_mean(str(name), known)}")
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
            # YAML reads a bare off as False.
            saliency = OFF if row["saliency"] is False else _text(row["saliency"])
            applied = float(row.get("mix_probability", 1.0))
            method, rule = _text(row["method"]), _text(row.get("label_rule", ""))
            actions.append(MixAction(method, float(row["ratio"]), saliency, applied, rule))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{where}[{number}] is not an action: {error}") from None
        except ConfigError as error:
            raise DataError(f"{where}[{number}]: {error.message}", error.hint) from None
    return actions


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} where a name was wanted")
    return value
