"""What cheaper gradient saliency does to accuracy, in pairs.

python -m benchmarks --only saliency --seconds 600
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from automix.agents.contest import stats
from automix.agents.parallel.machine import keep_memory
from automix.data.tasks import TaskSpec
from automix.envs.mix_env import DIGITS_FAMILY
from automix.envs.worlds import ImageWorld
from automix.mixing.actions import MixAction
from automix.training.settings import SaliencySettings, TrainerSettings
from benchmarks.harness import Section, Target, threads
from benchmarks.measures.epoch import CHEAP, GRADIENT

SECONDS = 90.0

KINDS = ((100, 0.0), (200, 0.2), (400, 0.4))
"""Training images and label noise."""

ACTION = MixAction("rmix", 0.5, "gradient")
UNGUIDED = MixAction("rmix", 0.5)
EACH = 8
"""Seeds of each kind in a round: one stack a kind."""

RESAMPLES = 4000


def run(seconds: float) -> Section:
    """Train all forms on the same tasks, round after round, as long as there is time."""
    keep_memory()
    forms = {name: (ACTION, form) for name, form in GRADIENT.items()}
    forms["none: random cells"] = (UNGUIDED, SaliencySettings())
    found: dict[str, list[np.ndarray]] = {name: [] for name in forms}
    passes: dict[str, int] = dict.fromkeys(forms, 0)
    start, rounds, last = time.perf_counter(), 0, 0.0
    with threads(1):
        while rounds < 1 or time.perf_counter() - start + last <= seconds:
            begun = time.perf_counter()
            for name, (action, form) in forms.items():
                accuracies, cost = trained(action, form, rounds)
                found[name].append(accuracies)
                passes[name] += cost
            rounds, last = rounds + 1, time.perf_counter() - begun
    scores = {name: np.concatenate(parts, axis=1) for name, parts in found.items()}
    return section(scores, passes)


def trained(action: MixAction, form: SaliencySettings, number: int) -> tuple[np.ndarray, int]:
    """Play one action throughout; return validation accuracies (kinds, seeds) and all passes."""
    world = ImageWorld(DIGITS_FAMILY, replace(TrainerSettings(), saliency=form))
    specs = [
        TaskSpec(train_size=size, label_noise=noise, seed=number * EACH + seed)
        for size, noise in KINDS
        for seed in range(EACH)
    ]
    population = world.start(specs)
    records = population.reset([spec.seed for spec in specs])
    passes = 0
    for _ in range(world.budget):
        records = population.run_epoch([action] * len(specs))
        passes += sum(r.forward_passes + r.backward_passes for r in records)
    return np.array([r.val_accuracy for r in records]).reshape(len(KINDS), EACH), passes


def section(scores: dict[str, np.ndarray], passes: dict[str, int]) -> Section:
    """Return the table of the paired differences to the papers' form."""
    full = next(iter(scores))
    rows: list[dict[str, object]] = []
    for name, accuracies in scores.items():
        gap = stats.stratified_bootstrap(
            accuracies - scores[full], stats.mean, resamples=RESAMPLES, seed=0
        )
        rows.append(
            {
                "saliency": name,
                "accuracy %": 100 * float(accuracies.mean()),
                "minus every step": 100 * gap.value,
                "low": 100 * gap.bounds[0],
                "high": 100 * gap.bounds[1],
                "passes, share": passes[name] / passes[full],
                "n": int(accuracies.size),
            }
        )
    cheap = stats.stratified_bootstrap(
        scores[CHEAP] - scores[full], stats.mean, resamples=RESAMPLES, seed=0
    )
    return Section(
        title="Accuracy of cheap saliency",
        about=f"Validation accuracy of digits trainings under {ACTION} throughout, the same tasks "
        "and seeds for all; points, with the 95 % interval of the paired difference to asking at "
        "every step.",
        columns=("saliency", "accuracy %", "minus every step", "low", "high", "passes, share", "n"),
        rows=rows,
        targets=[
            Target(
                f"accuracy of gradient saliency {CHEAP}, minus every step",
                "interval holds 0 or lies above it",
                f"{100 * cheap.value:+.2f} [{100 * cheap.low:+.2f}, {100 * cheap.high:+.2f}]",
                cheap.high >= 0,
            )
        ],
        notes=["Kinds: " + ", ".join(f"{size} images, {noise:.0%} noise" for size, noise in KINDS)],
    )
