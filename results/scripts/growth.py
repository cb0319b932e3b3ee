"""How the cost of a training grows with batch, image, training set and epochs.

python -m benchmarks.growth
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace

from agents.workers import keep_memory
from automix.actions import MixAction
from automix.trainer import Trainer
from benchmarks.command import main
from benchmarks.epoch import ENDLESS
from benchmarks.harness import Section, interleaved, threads
from benchmarks.synthetic import noise_task

SECONDS = 40.0

ACTION = MixAction("cutmix", 0.5)
CURVES = {
    "batch": (16, 32, 64, 128, 256),
    "px": (8, 16, 32, 64),
    "training images": (128, 256, 512, 1024),
    "epochs": (1, 2, 4, 8),
}
POINT = {"batch": 64, "px": 16, "training images": 256, "epochs": 1}
"""What stays when another grows."""


def run(seconds: float) -> Section:
    """Time epochs along each curve; all points take turns."""
    keep_memory()
    points = [(what, value) for what, values in CURVES.items() for value in values]
    with threads(1):
        took = interleaved({point: _epochs(*point) for point in points}, seconds, at_least=3)
    rows = []
    for what, values in CURVES.items():
        first = took[what, values[0]]
        for value in values:
            times = took[what, value] / first
            grown = value / values[0]
            power = None if grown == 1 else math.log(times) / math.log(grown)
            rows.append(
                {
                    "grows": what,
                    "to": value,
                    "ms": 1e3 * took[what, value],
                    "times the first": times,
                    "power": power,
                }
            )
    return Section(
        title="Growth",
        about=f"Epochs of small_cnn_w16 under {ACTION}, measuring of 64 images included, one "
        "thread. Power: p of cost ~ size ** p from the first row of the curve on.",
        columns=("grows", "to", "ms", "times the first", "power"),
        rows=rows,
        notes=[
            "Beside what grows: " + ", ".join(f"{name} {value}" for name, value in POINT.items())
        ],
    )


def _epochs(what: str, value: int) -> Callable[[], object]:
    at = POINT | {what: value}
    settings = replace(ENDLESS, model="small_cnn_w16", batch_size=at["batch"], probe_size=32)
    trainer = Trainer(noise_task(at["px"], 3, at["training images"], 32), settings)
    trainer.reset(0)
    return lambda: [trainer.run_epoch(ACTION) for _ in range(at["epochs"])]


if __name__ == "__main__":
    sys.exit(main(only="growth"))
