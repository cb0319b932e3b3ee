"""Everything a run is told, checked where it is written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from automix.agents.config.draws import check_range, drawn_specs
from automix.agents.config.published import check_name
from automix.core.errors import ConfigError
from automix.data.tasks import FamilySettings, TaskSpec
from automix.envs.settings import EnvSettings
from automix.training.settings import TrainerSettings

Backend = Literal["local", "ray"]

_COUNTS = (
    *("total_timesteps", "groups", "group_size", "batch_size", "n_epochs", "lstm_hidden_size"),
    *("n_steps", "buffer_size", "train_freq", "gradient_steps", "target_update_interval"),
    *("n_quantiles", "policy_delay", "n_top"),
)
_SHARES = (
    *("gamma", "gae_lambda", "tau"),
    *("exploration_fraction", "exploration_initial_eps", "exploration_final_eps"),
)
_ABOVE_0 = ("learning_rate", "clip_range", "max_grad_norm", "delta_std")
_FROM_0 = (
    *("learning_rate_end", "ent_coef", "vf_coef", "stacked_groups", "learning_starts"),
    *("top_quantiles_to_drop_per_net", "action_noise", "target_policy_noise", "target_noise_clip"),
)


@dataclass(frozen=True, kw_only=True)
class AgentSettings:
    """A learner and how it is fed; hyper-parameters keep stable-baselines3's names.

    Defaults are those of PPO where PPO has the setting; ``configs/agent`` has the other agents'.
    What an agent does not use must stay at its default (``check_agent`` of the algorithms).
    """

    name: str = "ppo"
    """A name in ``automix.agents.learning.algorithms.AGENTS``."""
    total_timesteps: int = 76_800
    """Actions played to learn, each for ``env.epochs_per_action`` epochs; a whole number of updates
    is played."""
    groups: int = 8
    """Tasks drawn for each update, side by side."""
    group_size: int = 8
    """Trainings of each task that share initial weights, batches and mixing draws."""
    stacked_groups: int = 0
    """Groups whose classifiers may share stacks; 0 is all of them on a GPU and one on a CPU, where
    larger stacks gain little. May change the last digits of a result."""
    normalise: bool = False
    """Whether observations and rewards are scaled by what has been seen of them
    (stable-baselines3's ``VecNormalize``); the export takes it in."""
    learning_rate: float = 3e-3
    learning_rate_end: float = 3e-4
    """The rate falls in a straight line from one to the other."""
    batch_size: int = 320
    n_epochs: int = 8
    gamma: float = 1.0
    gae_lambda: float = 1.0
    clip_range: float = 0.2
    ent_coef: float = 0.003
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5
    net_arch: Sequence[int] = (64, 64)
    lstm_hidden_size: int = 32
    """RecurrentPPO: width of its memory."""
    n_steps: int = 1
    """A2C: epochs between two updates. With a replay buffer: epochs whose rewards are summed before
    the rest of the return is estimated."""
    buffer_size: int = 200_000
    """Steps that are kept and learned from."""
    learning_starts: int = 1280
    """Steps that are played at random first."""
    train_freq: int = 1
    """Epochs, of all trainings side by side, between two bouts of learning."""
    gradient_steps: int = 8
    """Steps of the optimizer in a bout."""
    tau: float = 0.02
    """How far the target net follows at each of its updates."""
    target_update_interval: int = 1
    """DQN, QR-DQN: steps between updates of the target net, rounded to whole epochs of all
    trainings, at least one."""
    exploration_fraction: float = 0.6
    """Share of learning over which random play falls to its end value."""
    exploration_initial_eps: float = 1.0
    exploration_final_eps: float = 0.05
    n_quantiles: int = 25
    """QR-DQN, TQC: of the return."""
    top_quantiles_to_drop_per_net: int = 2
    """TQC: guards against hoping too much."""
    action_noise: float = 0.3
    """TD3: standard deviation of what is added to its numbers in [-1, 1] to explore."""
    policy_delay: int = 2
    """TD3: updates of the critics between those of the actor."""
    target_policy_noise: float = 0.2
    target_noise_clip: float = 0.5
    delta_std: float = 0.1
    """ARS: standard deviation of the candidates' parameters around the policy's."""
    n_top: int = 8
    """ARS: pairs of candidates that count, the best ones; at most all."""

    def __post_init__(self) -> None:
        for name in _COUNTS:
            _at_least(self, "agent", name, 1)
        for name in _SHARES:
            _between(self, "agent", name, 0.0, 1.0)
        for name in _ABOVE_0:
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"agent.{name} is {getattr(self, name)}, wanted a number above 0")
        for name in _FROM_0:
            _at_least(self, "agent", name, 0)
        if not self.net_arch or min(self.net_arch) < 1:
            raise ConfigError(
                f"agent.net_arch is {list(self.net_arch)}, wanted widths of 1 or more"
            )


@dataclass(frozen=True, kw_only=True)
class CompareSettings:
    """Who plays against whom, and on what."""

    contestants: Sequence[str] = (
        "agent",
        "none",
        "random",
        "mix_then_none",
        "none_then_mix",
        "linear_ramp",
        "alternating",
        "fixed",
    )
    """Names of schedules, controls and contestants that train by themselves, ``agent``,
    ``fixed:<method>@<ratio>[+<saliency>]``; ``fixed`` alone stands for every fixed choice that the
    agent has."""
    kinds: Sequence[str] = ()
    """Kinds of held-out task as ``<train size>@<label noise>``; empty takes every pair of the
    family. Not used with ``draws``."""
    draws: int = 0
    """Held-out tasks drawn from the range of the family's sizes and noise levels, none of them a
    value that is trained on; 0 plays ``kinds``."""
    seeds: int = 12
    """Without ``draws``: held-out tasks of each kind, each with its own images, wrong labels,
    weights and batches. With them: trainings of each drawn task, with weights, batches and mixing
    draws of their own; 2 or more for an oracle that does not pick by luck."""
    validation_draws: int = 0
    """Tasks drawn as ``draws`` are, with seeds of their own, that only fixed choices play, to pick
    the best by validation accuracy; 0 picks by validation accuracy on the compared tasks."""
    search_epochs: int = 0
    """Classifier epochs that each control may spend; 0 gives as many as the agent's learning
    took."""
    resamples: int = 4000
    """Bootstrap resamples for an interval."""

    def __post_init__(self) -> None:
        _at_least(self, "compare", "seeds", 1)
        for name in ("draws", "validation_draws", "search_epochs"):
            _at_least(self, "compare", name, 0)
        _at_least(self, "compare", "resamples", 100)
        if not self.contestants:
            raise ConfigError("compare.contestants is empty, wanted one name or more")
        kinds = [parse_kind(kind) for kind in self.kinds]
        for number, kind in enumerate(kinds):
            if kind in kinds[:number]:
                raise ConfigError(f"compare.kinds names {self.kinds[number]!r} twice")


@dataclass(frozen=True, kw_only=True)
class RaySettings:
    """Where Ray runs and what a worker takes of it; read with ``backend=ray`` and by sweeps."""

    address: str = ""
    """``auto``, ``host:port`` or ``ray://host:port`` joins a cluster; empty starts a local Ray that
    ends with the command."""
    cpus_per_worker: float = 1.0
    gpus_per_worker: float = 0.0
    """A share of a GPU, which bounds the worker's share of its memory too; 0 deals out what there
    is equally where classifiers train on GPUs."""

    def __post_init__(self) -> None:
        for name in ("cpus_per_worker", "gpus_per_worker"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise ConfigError(f"ray.{name} is {value}, wanted 0 or more")


@dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
    """How often a run notes where it is, and how much of that is kept."""

    share: float = 0.02
    """The most of the time that checkpoints may take: the next one waits until all of them are that
    small a part. Never more often than once an epoch; 0 writes none, 1 one after every epoch."""
    keep: int = 2
    """The last so many are kept, and the one with the best validation accuracy."""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ConfigError(
                f"checkpoint.share is {self.share}, wanted a number from 0 to 1",
                "0.02 spends at most 2 % of the time on checkpoints",
            )
        if self.keep < 1:
            raise ConfigError(f"checkpoint.keep is {self.keep}, wanted 1 or more")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """One run, whole."""

    task: FamilySettings = field(default_factory=FamilySettings)
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    env: EnvSettings = field(default_factory=EnvSettings)
    agent: AgentSettings = field(default_factory=AgentSettings)
    compare: CompareSettings = field(default_factory=CompareSettings)
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    ray: RaySettings = field(default_factory=RaySettings)
    seed: int = 0
    """Root of every random number, 0 or more."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:<n>``."""
    workers: int = 0
    """Processes that train classifiers; 0 takes one per core, as far as there is
    work for them, and one for a GPU. Never changes a result."""
    threads: int = 1
    """torch threads of each process on the CPU. More than 1 may change the last digits."""
    backend: Backend = "local"
    """``local``: processes of this machine, over pipes. ``ray``: actors, on a cluster too. Changes
    speed, never a result."""
    max_restarts: int = 3
    """How often a worker that died or hung is replaced; its work is done again."""
    step_timeout_s: float = 0.0
    """A worker that takes longer for one piece of work hangs; 0 waits for ever. Not for the piece
    that this process does itself."""
    name: str = ""
    """Run directory under ``runs/``; empty makes one from task, agent, seed and time."""
    policy: str = ""
    """An exported policy that stands for ``agent`` in ``compare`` and ``evaluate``: a folder, or
    the name of one that ``list policies`` shows."""
    published: str = ""
    """Published figures to print beside ours: a name in ``agents/config/published.yaml``."""

    def __post_init__(self) -> None:
        _at_least(self, "", "seed", 0)
        _at_least(self, "", "workers", 0)
        _at_least(self, "", "threads", 1)
        _at_least(self, "", "max_restarts", 0)
        _at_least(self, "", "step_timeout_s", 0)
        if self.backend not in get_args(Backend):
            raise ConfigError(
                f"backend is {self.backend!r}, wanted {' or '.join(get_args(Backend))}"
            )
        check_name(self.published)
        if self.name and (self.name.startswith(".") or "/" in self.name or "\\" in self.name):
            raise ConfigError(
                f"name is {self.name!r}, wanted one folder name without slashes",
                "to write elsewhere, give --run-dir",
            )
        if self.compare.draws or self.compare.validation_draws:
            check_range(self.task)


def parse_kind(text: str) -> tuple[int, float]:
    """Read ``<train size>@<label noise>``, such as ``200@0.3``.

    Raises:
        ConfigError: If the text has another form.
    """
    size, _, noise = text.partition("@")
    try:
        kind = int(size), float(noise or 0)
        FamilySettings(train_sizes=(kind[0],), label_noise=(kind[1],))
    except (ValueError, ConfigError):
        raise ConfigError(
            f"compare.kinds holds {text!r}, wanted <train size>@<label noise>",
            "for example compare.kinds=['100@0.0','400@0.3']",
        ) from None
    return kind


def held_out_specs(compare: CompareSettings, task: FamilySettings) -> list[list[TaskSpec]]:
    """Return the held-out tasks, one list per kind, seeds in order; a drawn task is by itself."""
    if compare.draws:
        return [[spec] for spec in drawn_specs(task, compare.draws, HELD_OUT)]
    pairs = [parse_kind(kind) for kind in compare.kinds] or [
        (size, noise) for size in task.train_sizes for noise in task.label_noise
    ]
    # A kind that came twice would count its trials twice.
    return [
        [
            TaskSpec(train_size=size, label_noise=noise, seed=HELD_OUT + index)
            for index in range(compare.seeds)
        ]
        for size, noise in dict.fromkeys(pairs)
    ]


def sample_specs(compare: CompareSettings, task: FamilySettings) -> list[TaskSpec]:
    """Return held-out tasks to check and time: one of each kind, or draws of three sizes."""
    specs = [kind[0] for kind in held_out_specs(compare, task)]
    if not compare.draws:
        return specs
    by_size = sorted(specs, key=lambda spec: spec.train_size)
    return list(dict.fromkeys([by_size[0], by_size[len(by_size) // 2], by_size[-1]]))


def validation_specs(compare: CompareSettings, task: FamilySettings) -> list[TaskSpec]:
    """Return the tasks that only fixed choices play, to pick the best of them."""
    return drawn_specs(task, compare.validation_draws, VALIDATION)


HELD_OUT = 2**31
"""Seeds from here on are for evaluation: an episode's own are drawn from below."""

VALIDATION = 2**32
"""Seeds from here on are for picking the best fixed choice; held-out ones are below."""


def _at_least(settings: object, section: str, name: str, least: float) -> None:
    value = getattr(settings, name)
    if not least <= value < math.inf:
        where = f"{section}.{name}" if section else name
        raise ConfigError(f"{where} is {value}, wanted {least} or more")


def _between(settings: object, section: str, name: str, low: float, high: float) -> None:
    value = getattr(settings, name)
    if not low <= value <= high:
        raise ConfigError(f"{section}.{name} is {value}, wanted a number from {low} to {high}")
