"""A run so small that all of its parts take seconds together."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from automix.agents.config.compose import load_settings
from automix.agents.config.settings import RunSettings
from automix.agents.jobs.run import run_train

WORDS = (
    "task.train_sizes=[40,60]",
    "task.label_noise=[0.0,0.3]",
    "task.val_size=30",
    "trainer.epochs=2",
    "trainer.batch_size=20",
    "trainer.probe_size=20",
    "trainer.warmup_epochs=0",
    "env.actions.methods=[none,mixup,cutmix,rmix]",
    "env.actions.ratios=[0.1,0.25,0.5]",
    "env.actions.space=factored",
    "agent.groups=2",
    "agent.group_size=2",
    "agent.total_timesteps=16",
    "agent.batch_size=8",
    "agent.n_epochs=2",
    "agent.net_arch=[8]",
    "compare.contestants=[agent,none,random,fixed:cutmix@0.5,fixed:mixup@0.25]",
    "compare.kinds=[40@0.0,50@0.3]",
    "compare.seeds=2",
    "compare.resamples=100",
    "device=cpu",
    "workers=1",
)
"""Two updates of two groups of two trainings of two epochs; twenty trials."""


def settings(*words: str) -> RunSettings:
    """Return the tiny settings with some words on top."""
    return load_settings((*WORDS, *words))


def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train once a session; return the run directory, which is for reading only."""
    return _trained(tmp_path_factory.getbasetemp())


@lru_cache(maxsize=1)
def _trained(base: Path) -> Path:
    path = base / "tiny_run"
    run_train(settings(), path)
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    """Read a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
