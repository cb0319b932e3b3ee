"""What the environment costs beside the training itself.

python -m benchmarks --only env
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from timm.optim import create_optimizer_v2

from automix.agents.parallel.machine import keep_memory
from automix.envs.mix_env import DIGITS_FAMILY, MixVectorEnv, image_world
from automix.nets.create import create_classifier
from automix.nets.stacking import stack
from automix.training.ensemble import measured_at_once
from automix.training.settings import TrainerSettings
from benchmarks.harness import Section, Target, interleaved, threads

SECONDS = 30.0

SIZES = (100, 200, 400)
"""Training images, as in the default family."""

GROUPS = (1, 8)
"""Members of a group: a single environment, and the default."""

SETTINGS = TrainerSettings(epochs=100_000)
"""The digits training, without an end in sight: no reset falls into the clock."""


def run(seconds: float) -> Section:
    """Step groups of each size, and do the same arithmetic bare."""
    rows = []
    keep_memory()
    with threads(1):
        for members in GROUPS:
            for size in SIZES:
                part = seconds / len(SIZES) / len(GROUPS)
                cases = {"step": _steps(size, members), "bare": _bare(size, members)}
                took = interleaved(cases, part)
                rows.append(_row(size, members, took["step"], took["bare"]))
    shares = {f"{r['images']} images, {r['members']} members": r["overhead %"] for r in rows}
    return Section(
        title="Environment step",
        about="One epoch of digits for a group, one thread. Bare: forward, backward, optimizer "
        "step and validation forward of the same stack, on batches that lie ready. The rest, "
        "mixing included, is overhead.",
        columns=("images", "members", "step ms", "bare ms", "overhead %"),
        rows=rows,
        targets=[Target.of("overhead of a digits step", shares, at_most=5.0, unit="%")],
    )


def _row(size: int, members: int, step: float, bare: float) -> dict[str, float]:
    return {
        "images": size,
        "members": members,
        "step ms": 1e3 * step,
        "bare ms": 1e3 * bare,
        "overhead %": 100 * (1 - bare / step),
    }


def _steps(size: int, members: int) -> Callable[[], object]:
    """Return a function that steps a group under actions drawn from the default menu."""
    family = replace(DIGITS_FAMILY, train_sizes=(size,), label_noise=(0.2,))
    env = MixVectorEnv(members, image_world(family, SETTINGS))
    env.reset(seed=0)
    env.action_space.seed(0)
    return lambda: env.step(env.action_space.sample())


def _bare(size: int, members: int) -> Callable[[], object]:
    """Return a function that does the arithmetic of one epoch and nothing else."""
    net = create_classifier(SETTINGS.model, num_classes=10, shape=(1, 8, 8), seed=0)
    nets = stack([net] * members)
    module = nets.module().to(memory_format=torch.channels_last)
    optimizer = create_optimizer_v2(
        module, opt="nesterov", lr=0.01, weight_decay=1e-4, momentum=0.9, fused=True
    )
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.random((size, members, 1, 8, 8), dtype=np.float32))
    targets = torch.full((size, members, 10), 0.1)
    batches = list(zip(images.split(50), targets.split(50), strict=True))
    seen = torch.from_numpy(
        rng.random(
            (min(SETTINGS.probe_size, size) + DIGITS_FAMILY.val_size, 1, 1, 8, 8), np.float32
        )
    )

    def epoch() -> None:
        module.train()
        for batch, wanted in batches:
            optimizer.zero_grad()
            loss = F.cross_entropy(nets(batch).flatten(0, 1), wanted.flatten(0, 1))
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            evaluate = nets.evaluator()
            for part in seen.split(measured_at_once(members, (1, 8, 8))):
                evaluate(part)

    return epoch
