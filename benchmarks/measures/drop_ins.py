"""What a schedule costs in place of timm's own Mixup, in the same training step.

python -m benchmarks --only drop_ins
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import timm
import timm.data
import torch
from timm.loss import SoftTargetCrossEntropy
from torch import Tensor

from automix.integrations.timm import FastCollateMixup, Mixup
from automix.mixing.actions import MixAction
from automix.policy.schedule import MixSchedule
from benchmarks.harness import Row, Section, Target, interleaved, threads

SECONDS = 40.0

CLASSES = 10
BATCHES = {32: 64, 224: 16}
"""Images of a batch, by their side in pixels."""

ALPHAS = {"mixup": {"mixup_alpha": 1.0}, "cutmix": {"mixup_alpha": 0.0, "cutmix_alpha": 1.0}}
"""Methods, and what timm wants to be told to play them and nothing else."""

MODEL = "test_resnet"
"""The smallest of timm: in a step of any other one, mixing weighs less."""

OWN, OURS = "timm", "automix"
COLUMNS = (
    *("px", "batch", "method", "mixed"),
    *("timm ms", "automix ms", "ratio", "step timm ms", "step ratio"),
)

Mix = Callable[[], tuple[Tensor, Tensor]]


def run(seconds: float) -> Section:
    """Time mixing alone, and whole steps, both in turns."""
    with threads(1):
        each = seconds / (len(BATCHES) * len(ALPHAS) * 2)
        rows = [
            row
            for side, batch in BATCHES.items()
            for method in ALPHAS
            for row in measured(side, batch, method, each)
        ]
    return section(rows)


def measured(side: int, batch: int, method: str, seconds: float) -> list[Row]:
    """Return a row for each place where a batch is mixed: in the loop, or while collating.

    Args:
        side: Pixels.
        batch: Images.
        method: A key of ``ALPHAS``.
        seconds: For each of the rows.
    """
    step = training_step()
    rows: list[Row] = []
    for place, mixes in forms(side, batch, method).items():
        calls = interleaved(mixes, 0.2 * seconds)
        steps = {name: partial(step, mix) for name, mix in mixes.items()}
        took = interleaved(steps, 0.8 * seconds)
        rows.append(
            {
                "px": side,
                "batch": batch,
                "method": method,
                "mixed": place,
                "timm ms": 1e3 * calls[OWN],
                "automix ms": 1e3 * calls[OURS],
                "ratio": calls[OURS] / calls[OWN],
                "step timm ms": 1e3 * took[OWN],
                "step ratio": took[OURS] / took[OWN],
            }
        )
    return rows


def forms(side: int, batch: int, method: str) -> Mapping[str, Mapping[str, Mix]]:
    """Return who mixes the same batch, by where it is mixed; images (batch, 3, side, side)."""
    draws = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (batch, 3, side, side), generator=draws, dtype=torch.uint8)
    images, labels = pixels.float() / 255, torch.arange(batch) % CLASSES
    samples = [(image.numpy(), int(label)) for image, label in zip(pixels, labels, strict=True)]
    mixer = MixSchedule([MixAction(method, 0.5)]).mixer(CLASSES, epochs=1, label_smoothing=0.1)
    mixer.set_epoch(0)
    alphas = {**ALPHAS[method], "num_classes": CLASSES}
    ours, own = Mixup(mixer), timm.data.Mixup(**alphas)
    our_collate, own_collate = FastCollateMixup(mixer), timm.data.FastCollateMixup(**alphas)
    return {
        "in the loop": {OWN: lambda: own(images, labels), OURS: lambda: ours(images, labels)},
        "collated": {OWN: lambda: own_collate(samples), OURS: lambda: our_collate(samples)},
    }


def training_step() -> Callable[[Mix], None]:
    """Return a step: mixing, forward and backward, without the optimizer."""
    net, loss = timm.create_model(MODEL, num_classes=CLASSES), SoftTargetCrossEntropy()

    def step(mix: Mix) -> None:
        images, targets = mix()
        net.zero_grad()
        loss(net(images.float()), targets).backward()

    return step


def section(rows: list[Row]) -> Section:
    """Return the table of what was measured."""
    ratios = {f"{row['method']}, {row['px']} px, {row['mixed']}": row["step ratio"] for row in rows}
    return Section(
        title="Drop-ins",
        about="A batch mixed by timm's Mixup in its default mode (one share for all "
        "images) and by ours (one each), alone and in a step of its smallest net, on one thread.",
        columns=COLUMNS,
        rows=rows,
        targets=[Target.of("a step in units of timm's", ratios, at_most=1.05)],
        notes=["ratio: mixing alone, ours in units of timm's; label smoothing is 0.1 in both."],
    )
