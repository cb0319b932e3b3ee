"""What each mix on the menu adds to a plain training step, with timm and torchvision beside ours.

python -m benchmarks --only menu
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
import torch.nn as nn
import torch.nn.functional as F
from timm.data import Mixup
from timm.data.random_erasing import RandomErasing
from torch import Tensor
from torchvision.transforms import v2

from automix.core.seeding import generator
from automix.mixes import MIXES
from automix.mixing.actions import OFF, MixAction
from automix.mixing.batch import mix_batch
from automix.nets.create import create_classifier
from automix.saliency import SALIENCY
from benchmarks.harness import Row, Section, interleaved, threads
from benchmarks.measures.kernels import CLASSES, Cell, data

SECONDS = 60.0

Case = Callable[[], object]


@dataclass(frozen=True)
class Size:
    """A training whose steps are the measure."""

    cell: Cell
    model: str


SIZES = (Size(Cell(8, 50, 1), "small_cnn_w8"), Size(Cell(32, 128, 1), "small_cnn_w32"))

COLUMNS = ("px", "batch", "mix", "by", "ms", "copies", "times a plain step", "more passes")


def run(seconds: float) -> Section:
    """Time every form of every mix, in turns with a plain step and a copy."""
    rows: list[Row] = []
    with threads(1):
        for size in SIZES:
            rows += rows_of(size, interleaved(cases_of(size), seconds / len(SIZES), at_least=2))
    return Section(
        title="Menu",
        about="One batch mixed, one thread. A plain step is forward, backward and optimizer step "
        "of the net without mixing; a step with the mix takes so many times as long.",
        columns=COLUMNS,
        rows=rows,
        notes=[
            "+spectral maps are computed for each batch here; a training computes them once.",
            "Maps of the classifier are asked for at every step, with the passes that they take.",
            "timm works in place. torchvision's RandomErasing takes an image at a time.",
        ],
    )


def forms() -> list[MixAction]:
    """Return every form on the menu: unguided, by the spectrum, by gradients.

    What makes its own steps mixes no batch: ``benchmarks.measures.transformers`` has it.
    """
    return [
        MixAction(entry.name, 0.5, saliency)
        for entry in MIXES.entries()
        if entry.name != "none" and not (entry.info.points or entry.info.step)
        for saliency in ((OFF, "spectral", "gradient") if entry.info.guided else (OFF,))
    ]


def cases_of(size: Size) -> dict[tuple[str, str], Case]:
    """Return what is timed, by name and by whose it is."""
    images, labels = data(size.cell)
    _, c, h, w = images.shape
    net = create_classifier(size.model, num_classes=CLASSES, shape=(c, h, w), seed=0)
    net = net.to(memory_format=torch.channels_last)
    out, own = torch.empty_like(images), images.clone()
    cases: dict[tuple[str, str], Case] = {
        ("copy", ""): partial(out.copy_, images),
        ("plain step", ""): partial(_step, net, images, labels),
    }
    for action in forms():
        mix = partial(mix_batch, images, labels, action, num_classes=CLASSES, classifier=net)
        cases[str(action), "automix"] = partial(mix, rng=generator(0), out=out)
    for (name, who), peer in _peers().items():
        cases[name, who] = partial(peer, own, labels)
    return cases


def _step(net: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Train as one would write it by hand; a rate of 0 keeps the net as it is."""
    net.zero_grad()
    F.cross_entropy(net(images), labels).backward()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(cast(Tensor, parameter.grad), alpha=0.0)


def _peers() -> dict[tuple[str, str], Callable[[Tensor, Tensor], object]]:
    """Return what other libraries have, by the name of our form."""

    def timm(**alphas: float) -> Callable[[Tensor, Tensor], object]:
        return Mixup(**alphas, mode="elem", label_smoothing=0.0, num_classes=CLASSES)

    timm_erasing = RandomErasing(probability=1.0, device="cpu")
    erasing = v2.RandomErasing(p=1.0)
    return {
        ("mixup@0.5", "timm elem"): timm(mixup_alpha=1.0, cutmix_alpha=0.0),
        ("cutmix@0.5", "timm elem"): timm(mixup_alpha=0.0, cutmix_alpha=1.0),
        ("mixup@0.5", "torchvision"): v2.MixUp(num_classes=CLASSES),
        ("cutmix@0.5", "torchvision"): v2.CutMix(num_classes=CLASSES),
        ("random_erasing@0.5", "timm"): lambda images, labels: timm_erasing(images),
        ("random_erasing@0.5", "torchvision"): lambda images, labels: torch.stack(
            [erasing(image) for image in images]
        ),
    }


def rows_of(size: Size, seconds: dict[tuple[str, str], float]) -> list[Row]:
    """Return the table's rows, cheapest first."""
    copy, step = seconds.pop(("copy", "")), seconds.pop(("plain step", ""))
    return [
        {
            **{key: size.cell.name[key] for key in ("px", "batch")},
            "mix": mix,
            "by": who,
            "ms": 1e3 * took,
            "copies": took / copy,
            "times a plain step": (step + took) / step,
            "more passes": _passes(mix) if who == "automix" else "",
        }
        for (mix, who), took in sorted(seconds.items(), key=lambda one: one[1])
    ]


def _passes(mix: str) -> str:
    """Return forward and backward passes that the maps take."""
    saliency = MixAction.parse(mix).saliency
    passes = (0, 0) if saliency == OFF else SALIENCY.info(saliency).passes
    forward, backward = cast(Sequence[int], passes)
    return f"{forward}F + {backward}B" if forward or backward else ""
