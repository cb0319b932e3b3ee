"""Microseconds to mix a batch, in copies of the batch and against timm, torchvision and kornia.

python -m benchmarks --only kernels
"""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from timm.data import Mixup
from torch import Tensor
from torchvision.transforms import v2

from automix.mixing.actions import MixAction
from automix.mixing.batch import MixSettings, mix_batch
from benchmarks.harness import Row, Section, Target, interleaved, threads, waited

SECONDS = 140.0

CLASSES = 100
COLUMNS = (
    *("px", "batch", "dtype", "threads", "method", "per", "copy us", "ours us", "copies"),
    *("derange copies", "fresh copies", "fastest peer", "peer us", "times faster"),
)
BUSY = 0.25
"""Seconds of waiting for a core per second, from which on a cell is called disturbed."""

COPIES = {"ours": "copies", "derange": "derange copies", "fresh": "fresh copies"}
PEERED = ("mixup", "cutmix")

Per = Literal["batch", "image"]
Mixer = Callable[[Tensor, Tensor], object]
Case = Callable[[], object]
Key = tuple[str, str, str]
"""Method, per, and who does it."""


@dataclass(frozen=True)
class Cell:
    """One size of work."""

    px: int
    batch: int
    threads: int
    batches: int = 1
    """How many batches one call mixes; costs are told for one of them."""
    dtype: torch.dtype = torch.float32

    @property
    def weight(self) -> int:
        """How much of the time it needs."""
        return 3 if self.px > 100 else 1

    @property
    def name(self) -> Row:
        """The first columns of its rows."""
        many = f"{self.batches} x " if self.batches > 1 else ""
        dtype = str(self.dtype).removeprefix("torch.")
        return {
            "px": self.px,
            "batch": f"{many}{self.batch}",
            "dtype": dtype,
            "threads": self.threads,
        }


GRID = [
    Cell(px, batch, count)
    for px, batches in ((32, (64, 128, 256, 1024)), (224, (64, 128)))
    for batch in batches
    for count in (1, 2)
]
TRAINER = [Cell(32, 64, count, batches=16) for count in (1, 2)]
DTYPES = [Cell(224, 64, 2, dtype=dtype) for dtype in (torch.bfloat16, torch.uint8)]


def run(seconds: float) -> Section:
    """Measure every cell, the cases of a cell in turns."""
    cells = [*GRID, *TRAINER, *DTYPES]
    unit = seconds / sum(cell.weight for cell in cells)
    rows: list[Row] = []
    notes = dict.fromkeys(NOTES)
    busy: dict[Cell, float] = {}
    for cell in cells:
        start, before = time.perf_counter(), waited()
        with threads(cell.threads):
            cases, refused = usable(cases_of(cell))
            left = start + unit * cell.weight - time.perf_counter()
            rows += rows_of(cell, interleaved(cases, left, at_least=2))
        busy[cell] = (waited() - before) / (time.perf_counter() - start)
        notes |= dict.fromkeys(f"{cell.name['dtype']}: {line}" for line in refused)
    return section(rows, [*notes, *disturbed(busy)])


# Cases -------------------------------------------------------------------------------------------


def cases_of(cell: Cell) -> dict[Key, Case]:
    """Return everything that a cell compares, over the same images."""
    images, labels = data(cell)
    out = torch.empty_like(images)
    # timm writes into the batch that it is given, which is its way and saves it an allocation.
    own = images.clone()
    cases: dict[Key, Case] = {("copy", "", ""): partial(out.copy_, images)}
    for method, per in methods():
        mix = partial(
            mix_batch,
            images,
            labels,
            MixAction(method, 0.5),
            num_classes=CLASSES,
            rng=np.random.default_rng(0),
            batch_size=cell.batch,
        )
        settings = MixSettings(share_per=per)
        cases[method, per, "ours"] = partial(mix, settings=settings, out=out)
        cases[method, per, "fresh"] = partial(mix, settings=settings)
        settings = replace(settings, pairing="derange")
        cases[method, per, "derange"] = partial(mix, settings=settings, out=out)
        for who, mixer in peers(method, per).items():
            given = own if who.startswith("timm") else images
            cases[method, per, who] = partial(each_batch, mixer, cell.batch, given, labels)
    return cases


def data(cell: Cell) -> tuple[Tensor, Tensor]:
    """Draw images, (n, 3, px, px), and int labels, (n,)."""
    rng, n = np.random.default_rng(0), cell.batch * cell.batches
    pixels = torch.from_numpy(rng.random((n, 3, cell.px, cell.px), dtype=np.float32))
    images = pixels if cell.dtype.is_floating_point else pixels * 255
    return images.to(cell.dtype), torch.from_numpy(rng.integers(0, CLASSES, n))


def methods() -> list[tuple[str, Per]]:
    """Return mixup and CutMix per batch, and with R-Mix, unguided, per image.

    One of each kind of mask: a constant, a box, cells. All others: ``benchmarks.measures.menu``.
    """
    return [*((name, "batch") for name in PEERED), *((name, "image") for name in (*PEERED, "rmix"))]


def peers(method: str, per: Per) -> dict[str, Mixer]:
    """Return what does the same elsewhere: one draw a batch, or one an image."""
    if method not in PEERED:
        return {}
    alphas = {"mixup_alpha": float(method == "mixup"), "cutmix_alpha": float(method == "cutmix")}
    timm = partial(Mixup, **alphas, prob=1.0, label_smoothing=0.0, num_classes=CLASSES)
    if per == "batch":
        transform = v2.MixUp if method == "mixup" else v2.CutMix
        return {"timm batch": timm(mode="batch"), "torchvision": transform(num_classes=CLASSES)}
    found: dict[str, Mixer] = {"timm elem": timm(mode="elem")}
    if importlib.util.find_spec("kornia"):
        augmentation = importlib.import_module("kornia.augmentation")
        name = {"mixup": "RandomMixUpV2", "cutmix": "RandomCutMixV2"}[method]
        found["kornia"] = getattr(augmentation, name)(p=1.0, data_keys=["input", "class"])
    return found


def each_batch(mixer: Mixer, batch: int, images: Tensor, labels: Tensor) -> None:
    """Mix one batch after the other."""
    for part, part_labels in zip(images.split(batch), labels.split(batch), strict=True):
        mixer(part, part_labels)


def usable(cases: Mapping[Key, Case]) -> tuple[dict[Key, Case], list[str]]:
    """Call each case once; return those that run, and a line for each that refuses."""
    able, refused = {}, []
    for (method, per, who), case in cases.items():
        try:
            case()
            able[method, per, who] = case
        except (RuntimeError, TypeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            refused.append(f"{who} refuses {method} per {per}: {reason}")
    return able, refused


# Table -------------------------------------------------------------------------------------------

NOTES = (
    f"All make targets of {CLASSES} classes from int labels. ours: the default settings, ratio "
    "0.5, into a buffer that is reused.",
    "copies: times one `out.copy_(images)` of the same images into warm memory. derange: ours "
    "with pairing derange. fresh: ours with a new output each time.",
    "timm works in place on the batch that it is given; torchvision returns new tensors; kornia, "
    "if it is installed, returns two labels and a weight in place of targets.",
    "16 x 64: as the trainer does it, 16 batches in one call; figures are for one batch.",
)


def rows_of(cell: Cell, seconds: Mapping[Key, float]) -> list[Row]:
    """Return a row for each method, with what it is compared with."""
    us = {key: 1e6 * took / cell.batches for key, took in seconds.items()}
    copy = us["copy", "", ""]
    return [
        {
            **cell.name,
            "method": method,
            "per": per,
            "copy us": copy,
            **costs({key[2]: took for key, took in us.items() if key[:2] == (method, per)}, copy),
        }
        for method, per in methods()
    ]


def costs(us: Mapping[str, float], copy: float) -> dict[str, float | str]:
    """Return the columns that compare; ``us`` has the microseconds of all who did not refuse."""
    mine = {who: us[who] for who in ("ours", "derange", "fresh") if who in us}
    found: dict[str, float | str] = {COPIES[who]: took / copy for who, took in mine.items()}
    if "ours" in mine:
        found["ours us"] = us["ours"]
    if others := {who: took for who, took in us.items() if who not in mine}:
        peer = min(others, key=lambda who: others[who])
        found |= {"fastest peer": peer, "peer us": others[peer]}
        if "ours" in mine:
            found["times faster"] = others[peer] / us["ours"]
    return found


def disturbed(busy: Mapping[Cell, float]) -> list[str]:
    """Return a line that names the cells in which others had the cores for much of the time.

    Args:
        busy: Seconds that threads waited for a core, per second, for each cell.
    """
    name = "{px} px, batch {batch}, {dtype}, threads {threads}"
    cells = [
        f"{name.format(**cell.name)} ({100 * share:.0f} %)"
        for cell, share in busy.items()
        if share > BUSY
    ]
    about = "Others had the cores, so figures say little (in parentheses, waiting for a core): "
    return [about + "; ".join(cells)] if cells else []


def section(rows: list[Row], notes: list[str]) -> Section:
    """Judge the grid: float32, one batch a call."""
    grid = [row for row in rows if row["dtype"] == "float32" and "x" not in row["batch"]]
    targets = [
        *(
            Target.of(
                f"mixup and cutmix per {per}",
                figures(grid, "copies", per),
                at_most=3.0,
                unit="copies",
            )
            for per in ("batch", "image")
        ),
        *(
            Target.of(
                f"mixup and cutmix per {per}, against the fastest peer",
                figures(grid, "times faster", per),
                at_least=2.0,
                unit="times faster",
            )
            for per in ("batch", "image")
        ),
        Target.of(
            "every unguided method per image",
            figures(grid, "copies", "image", (*PEERED, "rmix")),
            at_most=5.0,
            unit="copies",
        ),
    ]
    return Section(
        title="Mixing a batch",
        about="Median microseconds of one batch on the CPU, against one copy of it and against "
        "the fastest peer that draws as often, all measured in turns.",
        columns=COLUMNS,
        rows=rows,
        targets=targets,
        notes=notes,
    )


def figures(
    rows: list[Row], column: str, per: str, names: tuple[str, ...] = PEERED
) -> dict[str, float]:
    """Return one column's figures of some methods, by what the row is about."""
    name = "{method}, {px} px, batch {batch}, threads {threads}"
    return {
        name.format(**row): row[column]
        for row in rows
        if row["per"] == per and row["method"] in names and column in row
    }
