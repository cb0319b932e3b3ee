"""Everything registered, by kind."""

from __future__ import annotations

from typing import Any

import timm

from automix.agents.config.compose import groups, load_settings
from automix.agents.config.worlds import worlds_of
from automix.agents.contest.controls import CONTROLS
from automix.agents.contest.own_training import OWN_TRAINING, SETTLING
from automix.agents.contest.schedules import SCHEDULES
from automix.agents.learning.algorithms import AGENTS
from automix.agents.learning.export import facts_of
from automix.core.errors import ConfigError, did_you_mean
from automix.core.registry import Registry
from automix.data import DATASETS
from automix.envs import ENV_IDS, OBSERVATIONS, REWARDS
from automix.labels import LABEL_RULES
from automix.masks.pairing import PAIRINGS
from automix.mixes import MIXES
from automix.mixing.actions import PRESETS
from automix.nets.create import PROTOCOL_NETS, SMALL_NETS, SMALL_TRANSFORMERS
from automix.policy.policy import list_policies
from automix.saliency import SALIENCY
from automix.training.requirements import supports

REGISTRIES: dict[str, Registry[Any, Any]] = {
    "mixes": MIXES,
    "saliency": SALIENCY,
    "labels": LABEL_RULES,
    "pairings": PAIRINGS,
    "datasets": DATASETS,
    "schedules": SCHEDULES,
    "observations": OBSERVATIONS,
    "rewards": REWARDS,
    "agents": AGENTS,
    "controls": CONTROLS,
    "own_training": OWN_TRAINING,
    "settling": SETTLING,
}


def catalogue(kind: str | None = None) -> dict[str, list[dict[str, Any]]]:
    """Return name, summary and facts of everything registered, or of one kind.

    Raises:
        ConfigError: If there is no such kind.
    """
    if kind == "models":
        # All of timm's are too many for the plain list, so they come only when asked for.
        return {
            "models": [
                {"name": name, "summary": "timm", "facts": {}} for name in timm.list_models()
            ]
        }
    everything = {name: _entries(registry) for name, registry in REGISTRIES.items()}
    everything["published"] = [
        {"name": name, "summary": form, "facts": {}} for name, form in PRESETS.items()
    ]
    everything["models"] = [
        {
            "name": name,
            "summary": timm.model_entrypoint(name).__doc__ or "",
            "facts": {"note": "any timm model works; see `list models`"},
        }
        for name in (*SMALL_NETS, *SMALL_TRANSFORMERS, *PROTOCOL_NETS)
    ]
    everything["environments"] = [
        {"name": name, "summary": entry, "facts": {}} for name, entry in ENV_IDS.items()
    ]
    everything["policies"] = [
        {"name": name, "summary": summary, "facts": {}} for name, summary in list_policies().items()
    ]
    everything["worlds"] = [entry for suite in groups()["worlds"] for entry in _worlds(suite)]
    everything["configs"] = [
        {"name": f"{group}={option}", "summary": "", "facts": {}}
        for group, options in groups().items()
        for option in options
    ]
    if kind is None:
        return everything
    if kind not in everything:
        raise ConfigError(
            f"there is nothing called {kind!r} to list.{did_you_mean(kind, everything)}",
            f"known: {', '.join(everything)}",
        )
    return {kind: everything[kind]}


def _worlds(suite: str) -> list[dict[str, Any]]:
    """Return the worlds of a suite of the configuration."""
    found = []
    for world in worlds_of(load_settings([f"worlds={suite}"])):
        own = facts_of(world)
        facts = {"set": own["dataset"], "net": own["model"], "epochs": own["budget"]}
        facts |= {"sizes": own["train_sizes"], "noise": own["label_noise"]}
        told = ", ".join(f"{name} {value}" for name, value in facts.items())
        found.append({"name": f"{suite}: {world.name}", "summary": told, "facts": facts})
    return found


LOOKING = ("mixes", "saliency", "labels")
"""Kinds of thing that not every net and every training can do."""


def _entries(registry: Registry[Any, Any]) -> list[dict[str, Any]]:
    looks = any(registry is REGISTRIES[kind] for kind in LOOKING)
    found = []
    for entry in registry.entries():
        facts = entry.info.facts
        if looks:
            facts |= {"requires": list(entry.info.needs), "supports": list(supports(entry.info))}
        found.append({"name": entry.name, "summary": entry.summary, "facts": facts})
    return found
