"""What a policy sees after each epoch: named numbers in fixed ranges.

None depends on the batch size, the number of classes or the order of samples, so that a policy
learned on one data set can be asked about another. To add one, write a function here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from automix.core.errors import ConfigError
from automix.core.registry import Info, Registry
from automix.mixing.actions import MixAction, index_of
from automix.training.metrics import EpochMetrics


@dataclass(frozen=True, kw_only=True)
class TaskFacts:
    """What is known of a task before its training starts."""

    budget: int
    """Epochs."""
    train_size: int
    """Training images."""
    num_classes: int
    pixels: int = 1
    """Height times width of an image."""
    batch_size: int = 1
    peak_lr: float = 0.0
    """The highest learning rate; 0 where none is known."""
    parameters: int = 1
    """Weights of the net."""
    augmented: bool = False
    """Whether training images are cropped, flipped or distorted before they are mixed."""

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole budget."""
        return self.budget * -(-self.train_size // self.batch_size)

    @property
    def work(self) -> int:
        """Pixels that the training reads, to which its time is about proportional."""
        return self.budget * self.train_size * self.pixels


class Vocabulary(Protocol):
    """What a policy chooses from: ``ActionSettings`` of an environment, ``PolicyForm``."""

    @property
    def methods(self) -> Sequence[str]:
        """In the order of the policy."""
        ...

    @property
    def saliency(self) -> Sequence[str]:
        """The same of providers."""
        ...


@dataclass(frozen=True)
class ObservationInputs:
    """What is known of one training when a policy is asked."""

    history: Sequence[EpochMetrics]
    """From epoch 0 on; never empty."""
    last_action: MixAction | None
    """None before the first epoch."""
    facts: TaskFacts
    """Of the task."""
    vocabulary: Vocabulary

    @property
    def now(self) -> EpochMetrics:
        """The newest record."""
        return self.history[-1]

    @property
    def before(self) -> EpochMetrics:
        """The record one epoch ago; at the start, the newest."""
        return self.history[-2] if len(self.history) > 1 else self.history[-1]

    def nats(self, loss: float) -> float:
        """A loss in units of ``log(classes)``: 1 is what guessing costs."""
        return loss / math.log(self.facts.num_classes)


Feature = Callable[[ObservationInputs], float | Sequence[float]]


def _one_number(vocabulary: Vocabulary) -> int:
    return 1


@dataclass(frozen=True, kw_only=True)
class ObservationInfo(Info):
    """What an observation states about itself."""

    low: float
    """The least value; what is below is clipped to it."""
    high: float
    """The largest."""
    size: Callable[[Vocabulary], int] = _one_number
    """How many numbers it has."""


OBSERVATIONS: Registry[Feature, ObservationInfo] = Registry("observation", ObservationInfo)

LOSS_RANGE = (0.0, 3.0)

_LOSS = ObservationInfo(low=LOSS_RANGE[0], high=LOSS_RANGE[1])


@OBSERVATIONS.register("progress", ObservationInfo(low=0, high=1))
def progress(view: ObservationInputs) -> float:
    """Finished epochs / budget."""
    return view.now.epoch / view.facts.budget


@OBSERVATIONS.register("train_loss", _LOSS)
def train_loss(view: ObservationInputs) -> float:
    """Loss on the clean probe, in units of log(classes)."""
    return view.nats(view.now.train_loss)


@OBSERVATIONS.register("val_loss", _LOSS)
def val_loss(view: ObservationInputs) -> float:
    """Validation loss, in units of log(classes)."""
    return view.nats(view.now.val_loss)


@OBSERVATIONS.register("train_accuracy", ObservationInfo(low=0, high=1))
def train_accuracy(view: ObservationInputs) -> float:
    """Accuracy on the clean probe, with the labels that training sees."""
    return view.now.train_accuracy


@OBSERVATIONS.register("val_accuracy", ObservationInfo(low=0, high=1))
def val_accuracy(view: ObservationInputs) -> float:
    """Validation accuracy."""
    return view.now.val_accuracy


@OBSERVATIONS.register("accuracy_gap", ObservationInfo(low=-1, high=1))
def accuracy_gap(view: ObservationInputs) -> float:
    """Train minus validation accuracy: positive when memorising, negative with wrong labels."""
    return view.now.train_accuracy - view.now.val_accuracy


@OBSERVATIONS.register("loss_gap", ObservationInfo(low=-LOSS_RANGE[1], high=LOSS_RANGE[1]))
def loss_gap(view: ObservationInputs) -> float:
    """Validation minus train loss, in units of log(classes)."""
    return view.nats(view.now.val_loss - view.now.train_loss)


@OBSERVATIONS.register("train_loss_change", ObservationInfo(low=-1, high=1))
def train_loss_change(view: ObservationInputs) -> float:
    """Train loss minus that of the epoch before, in units of log(classes)."""
    return view.nats(view.now.train_loss - view.before.train_loss)


@OBSERVATIONS.register("val_loss_change", ObservationInfo(low=-1, high=1))
def val_loss_change(view: ObservationInputs) -> float:
    """Validation loss minus that of the epoch before, in units of log(classes)."""
    return view.nats(view.now.val_loss - view.before.val_loss)


@OBSERVATIONS.register("val_accuracy_change", ObservationInfo(low=-1, high=1))
def val_accuracy_change(view: ObservationInputs) -> float:
    """Validation accuracy minus that of the epoch before."""
    return view.now.val_accuracy - view.before.val_accuracy


@OBSERVATIONS.register("best_val_accuracy_gap", ObservationInfo(low=0, high=1))
def best_val_accuracy_gap(view: ObservationInputs) -> float:
    """Best validation accuracy so far minus the present one."""
    return max(m.val_accuracy for m in view.history) - view.now.val_accuracy


@OBSERVATIONS.register("val_confidence", ObservationInfo(low=0, high=1))
def val_confidence(view: ObservationInputs) -> float:
    """Mean largest class probability on the validation split."""
    return view.now.val_confidence


@OBSERVATIONS.register("gradient_norm", ObservationInfo(low=0, high=1))
def gradient_norm(view: ObservationInputs) -> float:
    """Gradient norm g at the epoch's last batch, as g / (1 + g)."""
    return view.now.gradient_norm / (1 + view.now.gradient_norm)


@OBSERVATIONS.register("mixed_loss", _LOSS)
def mixed_loss(view: ObservationInputs) -> float:
    """Mean loss of the epoch's mixed batches, in units of log(classes)."""
    return view.nats(view.now.mixed_loss)


@OBSERVATIONS.register("log_train_size", ObservationInfo(low=0, high=1))
def log_train_size(view: ObservationInputs) -> float:
    """log10 of the number of training images, over 7."""
    return math.log10(view.facts.train_size) / 7


@OBSERVATIONS.register("log_steps", ObservationInfo(low=0, high=1))
def log_steps(view: ObservationInputs) -> float:
    """log10 of the optimizer steps of the whole budget, over 8."""
    return math.log10(view.facts.steps) / 8


@OBSERVATIONS.register("log_epochs", ObservationInfo(low=0, high=1))
def log_epochs(view: ObservationInputs) -> float:
    """log10 of the epochs of the whole budget, over 4: how often each image is seen."""
    return math.log10(view.facts.budget) / 4


@OBSERVATIONS.register("log_images_per_class", ObservationInfo(low=0, high=1))
def log_images_per_class(view: ObservationInputs) -> float:
    """log10 of the training images per class, over 7; 0 where there is one or none."""
    return math.log10(max(1.0, view.facts.train_size / view.facts.num_classes)) / 7


@OBSERVATIONS.register("log_classes", ObservationInfo(low=0, high=1))
def log_classes(view: ObservationInputs) -> float:
    """log10 of the number of classes, over 4."""
    return math.log10(view.facts.num_classes) / 4


@OBSERVATIONS.register("log_parameters", ObservationInfo(low=0, high=1))
def log_parameters(view: ObservationInputs) -> float:
    """log10 of the net's weights, over 9."""
    return math.log10(view.facts.parameters) / 9


@OBSERVATIONS.register("lr_share", ObservationInfo(low=0, high=1))
def lr_share(view: ObservationInputs) -> float:
    """Learning rate over the highest of the training; 0 where none is known."""
    return view.now.lr / view.facts.peak_lr if view.facts.peak_lr else 0.0


@OBSERVATIONS.register("augmented", ObservationInfo(low=0, high=1))
def augmented(view: ObservationInputs) -> float:
    """1 where training images are cropped or flipped, else 0."""
    return float(view.facts.augmented)


@OBSERVATIONS.register("skill", ObservationInfo(low=-1, high=1))
def skill(view: ObservationInputs) -> float:
    """Validation accuracy above chance: 0 is guessing among the classes, 1 is no error."""
    return _above_chance(view.now.val_accuracy, view)


@OBSERVATIONS.register("train_skill", ObservationInfo(low=-1, high=1))
def train_skill(view: ObservationInputs) -> float:
    """Accuracy above chance on the clean probe, with the labels that training sees."""
    return _above_chance(view.now.train_accuracy, view)


def _above_chance(accuracy: float, view: ObservationInputs) -> float:
    chance = 1 / view.facts.num_classes
    return (accuracy - chance) / (1 - chance)


@OBSERVATIONS.register("partner_share", ObservationInfo(low=0, high=1))
def partner_share(view: ObservationInputs) -> float:
    """Realised partner share of the last epoch."""
    return view.now.partner_share


@OBSERVATIONS.register("last_ratio", ObservationInfo(low=0, high=0.5))
def last_ratio(view: ObservationInputs) -> float:
    """Wanted partner share of the last action; 0 before the first."""
    return view.last_action.ratio if view.last_action else 0.0


@OBSERVATIONS.register(
    "last_method",
    ObservationInfo(low=0, high=1, size=lambda vocabulary: len(vocabulary.methods)),
)
def last_method(view: ObservationInputs) -> list[float]:
    """One-hot of the method played last, in the order of the vocabulary; zeros at the start."""
    methods = view.vocabulary.methods
    played = index_of(view.last_action, methods) if view.last_action else None
    return [float(i == played) for i in range(len(methods))]


@OBSERVATIONS.register(
    "last_saliency",
    ObservationInfo(low=0, high=1, size=lambda vocabulary: len(vocabulary.saliency)),
)
def last_saliency(view: ObservationInputs) -> list[float]:
    """One-hot of the saliency used last, in the order of the vocabulary; zeros at the start."""
    used = view.last_action.saliency if view.last_action else ""
    return [float(provider == used) for provider in view.vocabulary.saliency]


HISTORY = 4
"""Records before the newest that a history shows."""


def _earlier(view: ObservationInputs) -> list[EpochMetrics]:
    """Return the records before the newest, latest first; the first stands for those before it."""
    records = view.history[-2::-1] or view.history
    return [records[min(back, len(records) - 1)] for back in range(HISTORY)]


def _history(low: float, high: float) -> ObservationInfo:
    return ObservationInfo(low=low, high=high, size=lambda vocabulary: HISTORY)


@OBSERVATIONS.register("val_accuracy_history", _history(0, 1))
def val_accuracy_history(view: ObservationInputs) -> list[float]:
    """Validation accuracy at the four measurements before, latest first."""
    return [record.val_accuracy for record in _earlier(view)]


@OBSERVATIONS.register("val_loss_history", _history(*LOSS_RANGE))
def val_loss_history(view: ObservationInputs) -> list[float]:
    """Validation loss at the four measurements before, latest first, in units of log(classes)."""
    return [view.nats(record.val_loss) for record in _earlier(view)]


@OBSERVATIONS.register("train_loss_history", _history(*LOSS_RANGE))
def train_loss_history(view: ObservationInputs) -> list[float]:
    """Loss on the clean probe at the four measurements before, in units of log(classes)."""
    return [view.nats(record.train_loss) for record in _earlier(view)]


DEFAULT_OBSERVATIONS = (
    "progress",
    "train_loss",
    "val_loss",
    "train_accuracy",
    "val_accuracy",
    "accuracy_gap",
    "loss_gap",
    "train_loss_change",
    "val_loss_change",
    "val_accuracy_change",
    "val_confidence",
    "gradient_norm",
    "log_train_size",
    "partner_share",
    "last_method",
    "last_ratio",
)


class Observer:
    """Turns views into observation vectors.

    Args:
        names: Which observations, ``progress`` first.
        vocabulary: For the observations that name an action.
    """

    def __init__(self, names: Sequence[str], vocabulary: Vocabulary) -> None:
        if not names or names[0] != "progress":
            raise ConfigError(
                f"env.observations starts with {names[0] if names else 'nothing'!r}, "
                "wanted 'progress' first",
                "the budget is part of the task, so the policy must see how much is spent",
            )
        entries = [OBSERVATIONS.entry(name) for name in names]
        if len(set(names)) != len(names):
            raise ConfigError(f"env.observations names something twice: {list(names)}")
        self._features = [entry.value for entry in entries]
        sizes = [entry.info.size(vocabulary) for entry in entries]
        self.names = tuple(names)
        self.sizes = tuple(sizes)
        low, high = ([float(getattr(e.info, end)) for e in entries] for end in ("low", "high"))
        self.low = np.repeat(low, sizes).astype(np.float32)
        self.high = np.repeat(high, sizes).astype(np.float32)

    def __call__(self, view: ObservationInputs) -> np.ndarray:
        """Return the observation, (d,) float32, clipped to the declared ranges."""
        return self.all([view])[0]

    def all(self, views: Sequence[ObservationInputs]) -> np.ndarray:
        """Return the observations of several views, (k, d) float32."""
        rows: list[list[float]] = []
        for view in views:
            row: list[float] = []
            rows.append(row)
            for feature in self._features:
                value = feature(view)
                if isinstance(value, float):
                    row.append(value)
                else:
                    row.extend(value if isinstance(value, Sequence) else (value,))
        within = np.minimum(np.maximum(rows, self.low), self.high)
        return within.astype(np.float32)
