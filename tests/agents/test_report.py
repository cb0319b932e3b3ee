"""The report says what the run's files say: no more, no less, to anybody, in one file."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from agents.compare import summarise
from agents.report import write_report
from agents.rundir import RunDirectory
from agents.settings import CompareSettings, RunSettings
from automix.data.tasks import FamilySettings
from automix.errors import DataError
from automix.files import write_json
from automix.trainer import TrainerSettings
from envs.codec import ActionCodec, ActionSettings
from envs.game import EnvSettings

HELD_OUT = 2**31
EVERYBODY = (
    "agent", "none", "random", "mix_then_none", "none_then_mix", "linear_ramp", "alternating",
)  # fmt: skip


def make_run(
    path: Path,
    *,
    contestants=EVERYBODY,
    sizes=(100, 400),
    noise=(0.0, 0.3),
    seeds=6,
    epochs=8,
    updates=12,
    saliency=("off",),
    fixed=True,
) -> Path:
    """Write the files of a run that never happened, with numbers that could have been."""
    settings = RunSettings(
        task=FamilySettings(dataset="digits", train_sizes=sizes, label_noise=noise),
        trainer=TrainerSettings(epochs=epochs),
        env=EnvSettings(actions=ActionSettings(saliency=saliency)),
        compare=CompareSettings(seeds=seeds, resamples=200, contestants=contestants),
    )
    menu = [str(action) for action in ActionCodec(settings.env.actions).choices]
    names = [*contestants, *(f"fixed:{mix}" for mix in menu if mix != "none" and fixed)]
    directory = RunDirectory.create(path, settings, overwrite=True)
    rng = np.random.default_rng(0)
    trials = [
        trial
        for size in sizes
        for share in noise
        for seed in range(seeds)
        for trial in _trials(names, menu, size, share, seed, epochs, rng)
    ]
    directory.write_lines("trials.jsonl", trials)
    learned = updates * 64 * epochs if "agent" in contestants else 0
    result = summarise(trials, settings, learned, learned * 700)
    result["wall_s"], result["learning"] = 987.6, None
    if learned:
        lines = [_update(u, updates, epochs, menu, sizes, noise, rng) for u in range(updates)]
        directory.write_lines("metrics.jsonl", lines)
        result["learning"] = {"episodes": updates * 64, "updates": updates, "wall_s": 654.3}
    write_json(path / "result.json", result)
    return path


def _trials(names, menu, size, noise, seed, epochs, rng):
    level = rng.normal(0.86 + 0.03 * np.log2(size / 100) - 0.6 * noise, 0.015)
    for name in names:
        mixes = _plays(name, menu, noise, epochs, rng)
        share = np.array([_ratio(mix) * 0.8 for mix in mixes])
        gain = share.mean() * (noise - 0.06) * 1.6 + rng.normal(0, 0.008)
        gain += 0.008 * (len(set(mixes)) > 1) + 0.02 * (name == "agent")
        end = min(0.99, level + gain)
        curve = end - (end - 0.1) * np.exp(-5 * np.arange(epochs + 1) / epochs)
        curve[1:] += rng.normal(0, 0.012, epochs)
        kind = "fixed" if ":" in name or name == "none" else "schedule"
        yield {
            "contestant": name,
            "kind": name if name in ("agent", "random") else kind,
            "task": f"{size} images, {noise:.0%} noise",
            "seed": HELD_OUT + seed,
            "test_accuracy": float(end),
            "test_ece": float(0.05 + 0.3 * share.mean()),
            "val_accuracy": float(curve[-1]),
            "mixes": mixes,
            "val_curve": curve.round(6).tolist(),
            "partner_share": share.round(6).tolist(),
            "forward_passes": epochs * (size + 600),
            "backward_passes": epochs * size,
            "diverged": False,
        }


def _plays(name, menu, noise, epochs, rng):
    """Return one mix per epoch, as the contestant of that name would play."""
    if ":" in name:
        return [name.partition(":")[2]] * epochs
    late = [epoch / epochs >= 0.6 for epoch in range(epochs)]
    if name == "agent":
        weights = _taste(menu, noise, 1.0)
        return ["none" if x and rng.random() < 0.6 else str(rng.choice(menu, p=weights)) for x in late]
    if name == "random":
        return [str(mix) for mix in rng.choice(menu, epochs)]
    return ["none" if name == "none" or x else menu[-1] for x in late]


def _taste(menu, noise, progress):
    """Return how much the agent likes each mix: what pays, once it has learned."""
    pays = np.array([_ratio(mix) * (noise - 0.06) * 20 + ("cutmix" in mix) for mix in menu])
    weights = np.exp(2 * progress * pays)
    return weights / weights.sum()


def _ratio(mix):
    return float(mix.partition("@")[2].partition("+")[0] or 0)


def _update(update, updates, epochs, menu, sizes, noise, rng):
    progress = (update + 1) / updates
    kinds = {}
    for _ in range(8):
        size, share = rng.choice(sizes), rng.choice(noise)
        plays = Counter(rng.choice(menu, 64, p=_taste(menu, share, progress)))
        accuracy = 0.84 + 0.03 * np.log2(size / 100) - 0.5 * share + 0.05 * progress
        kinds[f"{size} images, {share:.0%} noise"] = {
            "episodes": 8,
            "val_accuracy": float(accuracy + rng.normal(0, 0.012)),
            "play": {str(mix): n / 64 for mix, n in sorted(plays.items())},
        }
    return {
        "update": update + 1,
        "timesteps": (update + 1) * 64 * epochs,
        "episodes": (update + 1) * 64,
        "classifier_epochs": (update + 1) * 64 * epochs,
        "val_accuracy": float(np.mean([kind["val_accuracy"] for kind in kinds.values()])),
        "diverged": 0,
        "by_kind": dict(sorted(kinds.items())),
        "agent": {
            "entropy": 2.3 - 1.2 * progress + float(rng.normal(0, 0.03)),
            "approx_kl": 0.01,
            "explained_variance": None if update == 0 else 0.5 * progress,
            "value_loss": 0.2 / (1 + update),
        },
    }
