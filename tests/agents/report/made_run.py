"""Files of runs that never happened, with numbers that could have been."""

from __future__ import annotations

import copy
import json
from collections import Counter
from pathlib import Path

import numpy as np

from automix.agents.config.settings import CompareSettings, RunSettings
from automix.agents.contest.summary import summarise
from automix.agents.runs.rundir import RunDirectory
from automix.core.files import write_json
from automix.data.tasks import FamilySettings
from automix.envs.codec import ActionCodec, ActionSettings
from automix.envs.settings import EnvSettings
from automix.training.settings import TrainerSettings

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
    """Write the files of one."""
    settings = RunSettings(
        task=FamilySettings(dataset="digits", train_sizes=sizes, label_noise=noise),
        trainer=TrainerSettings(epochs=epochs),
        env=EnvSettings(actions=ActionSettings(saliency=saliency)),
        compare=CompareSettings(seeds=seeds, resamples=200, contestants=contestants),
    )
    actions = [str(action) for action in ActionCodec(settings.env.actions).choices]
    names = [*contestants, *(f"fixed:{mix}" for mix in actions if mix != "none" and fixed)]
    directory = RunDirectory.create(path, settings, overwrite=True)
    rng = np.random.default_rng(0)
    trials = [
        trial
        for size in sizes
        for share in noise
        for seed in range(seeds)
        for trial in _trials(names, actions, size, share, seed, epochs, rng)
    ]
    directory.write_lines("trials.jsonl", trials)
    learned = updates * 64 * epochs if "agent" in contestants else 0
    result = summarise(trials, settings, learned, learned * 700)
    result["wall_s"], result["learning"] = 987.6, None
    if learned:
        lines = [_update(u, updates, epochs, actions, sizes, noise, rng) for u in range(updates)]
        directory.write_lines("metrics.jsonl", lines)
        result["learning"] = {"episodes": updates * 64, "updates": updates, "wall_s": 654.3}
    write_json(path / "result.json", result)
    return path


def _trials(names, actions, size, noise, seed, epochs, rng):
    level = rng.normal(0.86 + 0.03 * np.log2(size / 100) - 0.6 * noise, 0.015)
    for name in names:
        mixes = _plays(name, actions, noise, epochs, rng)
        share = np.array([ratio_of(mix) * 0.8 for mix in mixes])
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
            "test_top5": None,
            "val_accuracy": float(curve[-1]),
            "mixes": mixes,
            "val_curve": curve.round(6).tolist(),
            "partner_share": share.round(6).tolist(),
            "forward_passes": epochs * (size + 600),
            "backward_passes": epochs * size,
            "diverged": False,
        }


def _plays(name, actions, noise, epochs, rng):
    """Return one mix per epoch, as the contestant of that name would play."""
    if ":" in name:
        return [name.partition(":")[2]] * epochs
    late = [epoch / epochs >= 0.6 for epoch in range(epochs)]
    if name == "agent":
        weights = _taste(actions, noise, 1.0)
        return [
            "none" if x and rng.random() < 0.6 else str(rng.choice(actions, p=weights))
            for x in late
        ]
    if name == "random":
        return [str(mix) for mix in rng.choice(actions, epochs)]
    return ["none" if name == "none" or x else actions[-1] for x in late]


def _taste(actions, noise, progress):
    """Return how much the agent likes each mix: what pays, once it has learned."""
    pays = np.array([ratio_of(mix) * (noise - 0.06) * 20 + ("cutmix" in mix) for mix in actions])
    weights = np.exp(2 * progress * pays)
    return weights / weights.sum()


def ratio_of(mix):
    return float(mix.partition("@")[2].partition("+")[0] or 0)


def _update(update, updates, epochs, actions, sizes, noise, rng):
    progress = (update + 1) / updates
    kinds = {}
    for _ in range(8):
        size, share = rng.choice(sizes), rng.choice(noise)
        plays = Counter(rng.choice(actions, 64, p=_taste(actions, share, progress)))
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


def edit(run, change):
    """Change what result.json says."""
    result = json.loads((run / "result.json").read_text())
    change(result)
    write_json(run / "result.json", result)


EXPLANATION = {
    "trials": 24,
    "states": 192,
    "importance": {
        "states": 192,
        "repeats": 5,
        "observations": [
            {"observation": "progress", "changed": 0.412, "std": 0.02},
            {"observation": "val_loss", "changed": 0.07, "std": 0.01},
            {"observation": "last_method", "changed": 0.0, "std": 0.0},
        ],
    },
    "rule": {
        "observations": ["progress", "val_loss", "last_method"],
        "observation_sizes": [1, 1, 4],
        "parts": {"last_method": ["none", "mixup", "cutmix", "rmix"]},
        "epochs": 8,
        "nodes": [
            {"observation": "progress", "part": 0, "threshold": 0.55, "low": 1, "high": 2},
            {"choice": "cutmix@0.5", "share": 0.625, "fidelity": 0.97},
            {"observation": "last_method", "part": 3, "threshold": 0.5, "low": 3, "high": 4},
            {"choice": "none", "share": 0.3, "fidelity": 0.8},
            {"choice": "rmix@0.5", "share": 0.0, "fidelity": None},
        ],
        "fitted": {"trials": 12, "states": 96},
        "held_out": {"trials": 12, "states": 96},
        "fidelity": 0.913,
        "ci95": [0.87, 0.95],
        "majority": {"choice": "cutmix@0.5", "fidelity": 0.61},
        "by_epoch": 0.88,
    },
}


def explained(run, change=lambda explanation: None):
    """Put an explanation into a run."""
    explanation = copy.deepcopy(EXPLANATION)
    change(explanation)
    edit(run, lambda result: result.update(explanation=explanation))
    return run
