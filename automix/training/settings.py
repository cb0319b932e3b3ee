"""How a classifier is trained, as a frozen and checked record; timm's names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from automix.core.errors import ConfigError
from automix.core.settings import check_ranges, setting
from automix.mixing.batch import MixSettings
from automix.training.batches.augment import AugmentSettings

ELEMENTWISE = frozenset(
    {
        *("adabelief", "adadelta", "adagrad", "adam", "adamax", "adamc", "adamw", "adan"),
        *("adanw", "adopt", "adoptw", "laprop", "lion", "madgrad", "momentum", "nadam", "nadamc"),
        *("nadamw", "nesterov", "nesterovw", "radam", "radamw", "rmsprop", "rmsproptf", "sgd"),
        *("sgdc", "sgdw"),
    }
)
"""timm optimizers that treat each weight by itself. Others take norms over whole tensors, in which
the members of a stack would meet."""


@dataclass(frozen=True, kw_only=True)
class SaliencySettings:
    """How often and how closely a classifier is asked where it looks; each setting saves time.

    What each costs and what it does to accuracy: results/performance.md.
    """

    refresh: int = setting(1, least=1, whole=True)
    """The classifier is asked about the images of every k-th batch; for the others their last maps
    are used. 1 asks at every step, as the papers do. Above it, what is due is asked ahead of the
    images that are mixed in one call (1 MiB of them, at least a batch), up to 128 in a pass."""
    scale: int = setting(1, least=1, whole=True)
    """Images are shrunk by this factor for it, and the maps enlarged again."""
    source: Literal["pass", "step"] = "pass"
    """``pass``: a forward and backward pass on the clean batch. ``step``: the gradient of the
    training step itself, which costs next to nothing; an image that has no map yet is still asked
    about by a pass. Providers that cannot be read off a step (no ``from_step``) always take one."""

    def __post_init__(self) -> None:
        check_ranges(self, "trainer.saliency")
        if self.source not in ("pass", "step"):
            raise ConfigError(
                f"trainer.saliency.source is {self.source!r}, wanted 'pass' or 'step'"
            )


@dataclass(frozen=True, kw_only=True)
class TeacherSettings:
    """The trained net that saliency ``teacher`` asks."""

    model: str = ""
    """A timm model; its number of classes does not matter."""
    weights: str = ""
    """A safetensors file with its weights, named as timm names them."""

    def __post_init__(self) -> None:
        if bool(self.model) != bool(self.weights):
            named, missing = ("model", "weights") if self.model else ("weights", "model")
            raise ConfigError(
                f"trainer.teacher.{named} is set and trainer.teacher.{missing} is not",
                "a teacher needs both: a timm model, and a safetensors file with its weights",
            )


@dataclass(frozen=True, kw_only=True)
class OneCycleSettings:
    """The course of ``trainer.sched=onecycle``, in the words of torch's ``OneCycleLR``.

    ``trainer.lr`` is the highest rate; warm-up, smallest rate and momentum of the trainer are not
    read.
    """

    pct_start: float = setting(0.3, above=0, below=1)
    """Share of the steps in which the rate rises."""
    div_factor: float = setting(25.0, least=1)
    """The first rate is the highest divided by this."""
    final_div_factor: float = setting(1e4, least=1)
    """The last rate is the first divided by this."""
    base_momentum: float = 0.85
    """Momentum, or Adam's first beta, where the rate is highest."""
    max_momentum: float = 0.95
    """The same at both ends; equal to the other, momentum rests."""

    def __post_init__(self) -> None:
        check_ranges(self, "trainer.onecycle")
        if not 0 <= self.base_momentum <= self.max_momentum < 1:
            raise ConfigError(
                f"trainer.onecycle has base_momentum {self.base_momentum} and max_momentum "
                f"{self.max_momentum}, wanted the first at most the second, from 0 to below 1"
            )


@dataclass(frozen=True, kw_only=True)
class MarginSettings:
    """Margin-based label smoothing (MbLS; Liu et al. 2022, arXiv:2111.15430, equation 6).

    Adds ``weight * mean over classes of max(0, largest logit - logit - margin)`` to the loss of
    each image: the net may be sure, up to the margin. It does not look at the targets.
    """

    weight: float = setting(0.0, least=0)
    """0 is off; the paper's is 0.1."""
    margin: float = setting(10.0, least=0)
    """What logits may differ by at no cost."""

    def __post_init__(self) -> None:
        check_ranges(self, "trainer.margin")


@dataclass(frozen=True, kw_only=True)
class SelfAdaptiveSettings:
    """Self-adaptive targets (Huang et al. 2020, arXiv:2002.10319, algorithm 1).

    A training image's target moves towards what the classifier says of it, and images that it is
    sure of weigh more.
    """

    start_epoch: int = setting(0, least=0, whole=True)
    """The first epoch after which targets move; 0 is off. The paper's runs of 200 epochs start at
    40 to 60. From then on every epoch but the last ends with a forward pass over the training
    images, which is counted."""
    momentum: float = setting(0.9, least=0, most=1)
    """How much of a target stays when it moves."""

    def __post_init__(self) -> None:
        check_ranges(self, "trainer.self_adaptive")


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """How a classifier is trained; timm's names."""

    model: str = setting("small_cnn_w8", affects="shape")
    """A timm model."""
    epochs: int = setting(20, affects="shape", least=1)
    """The budget: epochs of one training run."""
    batch_size: int = setting(50, affects="shape", least=1)
    opt: str = setting("nesterov", affects="shape")
    """A timm optimizer."""
    lr: float = setting(0.1, least=0)
    weight_decay: float = setting(1e-4, least=0)
    momentum: float = setting(0.9, least=0)
    sched: str = "cosine"
    """A timm scheduler, stepped once per batch, or ``onecycle``."""
    warmup_epochs: int = setting(3, least=0)
    min_lr: float = setting(1e-5, least=0)
    decay_milestones: Sequence[int] = (150, 225)
    """Epochs after which ``multistep`` lowers the rate, rising."""
    decay_rate: float = setting(0.1, above=0)
    """What ``multistep`` and ``step`` multiply the rate with; the power of ``poly``."""
    onecycle: OneCycleSettings = field(default_factory=OneCycleSettings)
    label_smoothing: float = setting(0.0, least=0, below=1)
    """Applied before mixing."""
    margin: MarginSettings = field(default_factory=MarginSettings)
    self_adaptive: SelfAdaptiveSettings = field(default_factory=SelfAdaptiveSettings)
    probe_size: int = setting(200, least=1)
    """Training images, unmixed, that the train metrics are measured on each epoch."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """``bfloat16`` runs forward passes under autocast; weights, losses and steps stay float32."""
    compile: bool = False
    """Whether the net goes through ``torch.compile``: some minutes of compiling at the start, worth
    it for long runs on a GPU; on a CPU it needs a C++ compiler."""
    mix: MixSettings = field(default_factory=MixSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    saliency: SaliencySettings = field(default_factory=SaliencySettings)
    model_ema: bool = setting(False, affects="shape")
    """Whether a moving average of the weights is kept, for saliency ``ema``; what is measured is
    the classifier itself."""
    model_ema_decay: float = setting(0.99, least=0, below=1)
    """What remains of the average at each step. timm's 0.9998 looks back 5000 steps,
    which is longer than a short training."""
    teacher: TeacherSettings = field(default_factory=TeacherSettings)

    def __post_init__(self) -> None:
        check_ranges(self, "trainer")
        milestones = list(self.decay_milestones)
        if not milestones or milestones[0] < 1 or milestones != sorted(set(milestones)):
            raise ConfigError(
                f"trainer.decay_milestones is {milestones}, wanted rising epochs of 1 or more"
            )
        if self.precision not in ("float32", "bfloat16"):
            raise ConfigError(
                f"trainer.precision is {self.precision!r}, wanted 'float32' or 'bfloat16'"
            )
