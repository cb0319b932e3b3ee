"""All settings of a run, each checked where it is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from automix.agents.config.agent import DEFAULT_AGENT, AgentSettings, settings_class
from automix.agents.config.draws import check_range
from automix.agents.config.published import check_name
from automix.core.errors import ConfigError
from automix.core.settings import check_ranges, setting
from automix.data.tasks import FamilySettings, TaskSpec
from automix.envs.settings import EnvSettings
from automix.training.settings import TrainerSettings

Backend = Literal["local", "ray"]


@dataclass(frozen=True, kw_only=True)
class CompareSettings:
    """What is compared, and on which tasks."""

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
    worlds: Sequence[str] = ()
    """Which worlds of the suite are compared on, each by its name or by that of its entry; empty
    takes all."""
    learned_on: str = ""
    """The suite that controls search on, a name in ``configs/worlds``: that which the policy was
    learned on, where others are compared on. Empty takes the worlds of the run."""
    selector_margin: float = setting(0.01, least=0)
    """A selector mixes only where it expects to gain more than this over no mixing, in units of
    the agent's reward (0.01 of an accuracy is one point); 0 takes whatever it thinks best."""
    draws: int = setting(0, least=0)
    """Held-out tasks drawn from the range of the family's sizes and noise levels, none of them a
    value that is trained on; 0 takes ``kinds``. Of a suite so many in all, dealt out to its worlds
    in turn."""
    seeds: int = setting(12, least=1)
    """Without ``draws``: held-out tasks of each kind, each with its own images, wrong labels,
    weights and batches. With them: runs of each drawn task, with weights, batches and mixing
    draws of their own; 2 or more for an oracle that does not pick by luck."""
    validation_draws: int = setting(0, least=0)
    """Tasks drawn as ``draws`` are, with seeds of their own, that only fixed choices train on, to
    pick the best by validation accuracy; 0 picks by validation accuracy on the compared tasks."""
    search_epochs: int = setting(0, least=0)
    """Classifier epochs that each control may spend; 0 gives as many as the agent's learning
    took."""
    resamples: int = setting(4000, least=100)
    """Bootstrap resamples for an interval."""

    def __post_init__(self) -> None:
        check_ranges(self, "compare")
        if not self.contestants:
            raise ConfigError("compare.contestants is empty, wanted one name or more")
        kinds = [parse_kind(kind) for kind in self.kinds]
        for number, kind in enumerate(kinds):
            if kind in kinds[:number]:
                raise ConfigError(f"compare.kinds names {self.kinds[number]!r} twice")


@dataclass(frozen=True, kw_only=True)
class WorldsSettings:
    """A suite: several worlds that one agent learns from, or that contestants are compared on."""

    suite: Mapping[str, Any] = field(default_factory=dict)
    """By name, what differs in each world from ``task`` and ``trainer``, under these two words;
    a list where one value belongs stands for a world with each of them. Empty: no suite, but the
    one world that ``task`` and ``trainer`` are."""
    skip_missing: bool = False
    """Whether a world whose images are not here is left out with a warning, instead of refused."""


@dataclass(frozen=True, kw_only=True)
class RaySettings:
    """Where Ray runs and what a worker takes of it; read with ``backend=ray`` and by sweeps."""

    address: str = setting("", affects="speed")
    """``auto``, ``host:port`` or ``ray://host:port`` joins a cluster; empty starts a local Ray that
    ends with the command."""
    cpus_per_worker: float = setting(1.0, affects="speed", least=0)
    gpus_per_worker: float = setting(0.0, affects="speed", least=0)
    """A share of a GPU, which bounds the worker's share of its memory too; 0 deals out what there
    is equally where classifiers train on GPUs."""

    def __post_init__(self) -> None:
        check_ranges(self, "ray")


@dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
    """How often a run notes where it is, and how much of that is kept."""

    share: float = setting(
        0.02,
        affects="speed",
        least=0,
        most=1,
        hint="0.02 spends at most 2 % of the time on checkpoints",
    )
    """The most of the time that checkpoints may take: the next one waits until all of them are that
    small a part. Never more often than once an epoch; 0 writes none, 1 one after every epoch."""
    keep: int = setting(2, affects="speed", least=1)
    """The last so many are kept, and the one with the best validation accuracy."""

    def __post_init__(self) -> None:
        check_ranges(self, "checkpoint")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """One run, whole."""

    task: FamilySettings = field(default_factory=FamilySettings)
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    env: EnvSettings = field(default_factory=EnvSettings)
    agent: AgentSettings = setting(
        factory=lambda: settings_class(DEFAULT_AGENT)(), chosen=settings_class
    )
    worlds: WorldsSettings = field(default_factory=WorldsSettings)
    compare: CompareSettings = field(default_factory=CompareSettings)
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    ray: RaySettings = field(default_factory=RaySettings)
    seed: int = setting(0, least=0)
    """Root of every random number, 0 or more."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:<n>``."""
    workers: int = setting(0, affects="speed", least=0)
    """Processes that train classifiers; 0 takes one per core, as far as there is
    work for them, and one for a GPU. Never changes a result."""
    threads: int = setting(1, least=1)
    """torch threads of each process on the CPU. More than 1 may change the last digits."""
    backend: Backend = setting("local", affects="speed")
    """``local``: processes of this machine, over pipes. ``ray``: actors, on a cluster too. Changes
    speed, never a result."""
    max_restarts: int = setting(3, affects="speed", least=0)
    """How often a worker that died or hung is replaced; its work is done again."""
    step_timeout_s: float = setting(0.0, affects="speed", least=0)
    """A worker that takes longer for one piece of work hangs; 0 waits for ever. Not for the piece
    that this process does itself."""
    name: str = setting("", affects="speed")
    """Run directory under ``runs/``; empty makes one from task, agent, seed and time."""
    policy: str = ""
    """An exported policy that stands for ``agent`` in ``compare`` and ``evaluate``, and that
    ``train`` goes on from: a folder, or the name of one that ``list policies`` shows."""
    published: str = ""
    """Published figures to print beside ours: a name in ``agents/config/published.yaml``."""

    def __post_init__(self) -> None:
        check_ranges(self)
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
        if self.worlds.suite and not self.env.decisions:
            raise ConfigError(
                "worlds.suite names worlds of different budgets, and env.decisions is 0",
                "set env.decisions=5: then all episodes have as many actions",
            )
        if (self.compare.draws or self.compare.validation_draws) and not self.worlds.suite:
            check_range(self.task)

    @property
    def decisions(self) -> int:
        """Actions of an episode."""
        return self.env.steps(self.trainer.epochs)


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
    """Return the held-out tasks of each kind in a family, seeds in order."""
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


HELD_OUT = 2**31
"""Seeds from here on are for evaluation: an episode's own are drawn from below."""

VALIDATION = 2**32
"""Seeds from here on are for picking the best fixed choice; held-out ones are below."""
