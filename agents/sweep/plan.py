"""From the words of a sweep to its trials: every combination, composed and checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from automix.agents.config.compose import Choices, choices_of, load_settings, read_section
from automix.agents.config.settings import RaySettings, RunSettings
from automix.agents.jobs.check import check
from automix.agents.parallel import machine
from automix.agents.runs.progress import progress
from automix.agents.runs.rundir import plain
from automix.agents.sweep.settings import SweepSettings
from automix.core.errors import AutomixError, ConfigError, ResourceError
from automix.core.settings import values_that_decide

SEED = "seed"
"""The swept key that is no parameter to win by."""

NOT_OF_A_TRIAL = {
    "name": "a sweep has sweep.name",
    "workers": "a trial has sweep.cpus_per_trial workers",
    "threads": "a trial's processes have one thread each",
    "backend": "trials are Ray's work, each with processes of its own",
}
"""Keys that a sweep sets itself."""


@dataclass(frozen=True)
class SweepTrial:
    """One run of a sweep.

    Attributes:
        hash: Names its folder; the same for the same settings, whatever words they came from.
        values: What the sweep chose: key to value, as text.
        words: All its words, as ``train`` takes them.
        settings: What these words make.
    """

    hash: str
    values: Mapping[str, str]
    words: Sequence[str]
    settings: RunSettings

    def __str__(self) -> str:
        """Return the words that tell it from the others."""
        return " ".join(f"{key}={value}" for key, value in self.values.items()) or self.hash


@dataclass(frozen=True)
class SweepPlan:
    """A sweep before it starts.

    Attributes:
        words: As typed.
        settings: Of the sweep.
        ray: Where it runs.
        keys: What is swept, in the order of the words.
        trials: Every combination; the last word changes fastest.
    """

    words: Sequence[str]
    settings: SweepSettings
    ray: RaySettings
    keys: Sequence[str]
    trials: Sequence[SweepTrial]


def plan_of(words: Sequence[str]) -> SweepPlan:
    """Compose every combination of the words; nothing but the words is looked at.

    Args:
        words: As ``train`` takes them, some with several values; ``sweep.<key>=value`` for the
            sweep itself, ``ray.<key>=value`` for where it runs.

    Raises:
        ConfigError: If a word cannot be used, or a combination of them; it says which.
    """
    sweep = read_section(SweepSettings, "sweep", [w for w in words if w.startswith("sweep.")])
    ray = read_section(RaySettings, "ray", [w for w in words if w.startswith("ray.")])
    rest = [w for w in words if not w.startswith(("sweep.", "ray."))]
    choices = choices_of(rest)
    for choice, word in zip(choices, rest, strict=True):
        if choice.key in NOT_OF_A_TRIAL:
            raise ConfigError(f"{word!r} is not for a sweep: {NOT_OF_A_TRIAL[choice.key]}")
    swept = [choice.key for choice in choices if choice.several]
    twice = next((key for key in swept if [c.key for c in choices].count(key) > 1), None)
    if twice:
        raise ConfigError(f"{twice} is given twice", f"write all its values at once: {twice}=1,2")
    combinations = product(*(choice.words for choice in choices))
    # Composing takes a tenth of a second, and seeds differ in nothing else.
    load = cache(load_settings)
    trials = [_trial(chosen, choices, sweep, load) for chosen in combinations]
    _refuse_twins(trials)
    return SweepPlan(tuple(words), sweep, ray, swept, trials)


def check_trials(plan: SweepPlan) -> None:
    """Check every combination as ``train`` would, before anything starts.

    Combinations that differ in nothing but the seed are looked at once.

    Raises:
        AutomixError: Of the first that cannot run; it says which.
    """
    different: dict[str, SweepTrial] = {}
    for trial in plan.trials:
        different.setdefault(hash_of(replace(trial.settings, seed=0)), trial)
    with progress("checking combinations", len(different)) as tick:
        for trial in different.values():
            try:
                check(checked_here(trial.settings), learns=True)
            except AutomixError as error:
                raise type(error)(f"{trial}: {error.message}", error.hint) from None
            tick()


def hash_of(settings: RunSettings) -> str:
    """Return twelve hex digits that stand for everything a trial's numbers depend on."""
    text = json.dumps(plain(values_that_decide(settings)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def default_path(plan: SweepPlan) -> Path:
    """Return ``sweeps/<name>``; without a name, one that equal words make again."""
    if plan.settings.name:
        return Path("sweeps") / plan.settings.name
    words = sorted(word for word in plan.words if not word.startswith(("sweep.", "ray.")))
    digest = hashlib.sha256("\n".join(words).encode()).hexdigest()[:8]
    task = plan.trials[0].settings.task.dataset.replace("/", "-")
    keys = "-".join(key.rpartition(".")[2] for key in plan.keys)
    return Path("sweeps") / "_".join(part for part in (task, keys[:60], digest) if part)


def fit(settings: SweepSettings, cpus: float, gpus: float) -> int:
    """Return how many trials a node with that much runs at once."""
    one = machine.Capacity(settings.cpus_per_trial, settings.gpus_per_trial)
    return machine.fit(machine.Capacity(cpus, gpus), one)


def at_once_here(plan: SweepPlan, cpus: float, gpus: float) -> int:
    """Return how many of a sweep's trials this machine alone runs at once.

    Raises:
        ResourceError: If it cannot run a single one.
    """
    one = plan.settings
    for what, asked, has in (
        ("CPU", one.cpus_per_trial, cpus),
        ("GPU", one.gpus_per_trial, gpus),
    ):
        if asked > has:
            raise ResourceError(
                f"a trial asks for {asked:g} {what}, this machine has {has:g}",
                f"lower sweep.{what.lower()}s_per_trial, or join a cluster with ray.address=auto",
            )
    most = min(len(plan.trials), fit(one, cpus, gpus))
    return min(most, one.max_concurrent or most)


def _trial(
    chosen: Sequence[str],
    choices: Sequence[Choices],
    sweep: SweepSettings,
    load: Callable[[tuple[str, ...]], RunSettings],
) -> SweepTrial:
    values = {
        choice.key: word.partition("=")[2]
        for choice, word in zip(choices, chosen, strict=True)
        if choice.several
    }
    try:
        seed = tuple(w for w, c in zip(chosen, choices, strict=True) if c.key == SEED)
        settings = load(tuple(word for word in chosen if word not in seed))
        settings = replace(settings, seed=load(seed).seed) if seed else settings
        settings = in_a_task(settings, sweep)
    except ConfigError as error:
        several = " ".join(word for word, c in zip(chosen, choices, strict=True) if c.several)
        where = f"{several}: " if several else ""
        raise ConfigError(f"{where}{error.message}", error.hint) from None
    return SweepTrial(hash_of(settings), values, chosen, settings)


def in_a_task(settings: RunSettings, sweep: SweepSettings) -> RunSettings:
    """Return the settings as a trial has them, inside one task of Ray's."""
    device = settings.device
    if sweep.gpus_per_trial and device not in ("auto", "cuda"):
        raise ConfigError(
            f"device={device} with sweep.gpus_per_trial={sweep.gpus_per_trial:g}",
            "leave device out: Ray deals out the GPUs",
        )
    if not sweep.gpus_per_trial and device.startswith("cuda"):
        raise ConfigError(
            f"device={device}, but a trial gets no GPU", "say how many with sweep.gpus_per_trial=1"
        )
    return replace(
        settings,
        # A GPU is fed by one process.
        workers=1 if sweep.gpus_per_trial else sweep.cpus_per_trial,
        device="cuda" if sweep.gpus_per_trial else "cpu",
        threads=1,
        backend="local",
        ray=RaySettings(),
        name="",
    )


def checked_here(settings: RunSettings) -> RunSettings:
    """Return what this machine can check: the GPUs may all be elsewhere."""
    return replace(settings, device="auto" if settings.device == "cuda" else "cpu")


def _refuse_twins(trials: Sequence[SweepTrial]) -> None:
    met: dict[str, SweepTrial] = {}
    for trial in trials:
        twin = met.setdefault(trial.hash, trial)
        if twin is not trial:
            raise ConfigError(
                f"{trial} and {twin} are the same trial", "leave one of the values out"
            )


def described(plan: SweepPlan) -> dict[str, Any]:
    """Return what ``sweep.yaml`` holds: enough to plan the same sweep again."""
    return {
        "job": "train",
        "words": list(plan.words),
        "home": str(Path.cwd()),
        "sweep": asdict(plan.settings),
        "ray": asdict(plan.ray),
        "keys": list(plan.keys),
        "trials": [trial.hash for trial in plan.trials],
    }
