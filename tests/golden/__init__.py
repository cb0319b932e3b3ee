"""Golden numbers of a tiny training: a change of them is a change of behaviour, to be explained.

``python -m tests.golden`` writes them anew; the diff shows what moved.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from automix.mixing.actions import MixAction
from automix.training.population import Trainer
from tests import tiny

FILE = Path(__file__).with_name("tiny_training.json")

ACTIONS = (
    "none",
    "mixup@0.5",
    "mixup@0.3+spectral",
    "cutmix@0.5",
    "cutmix@0.3+spectral",
    "rmix@0.5",
    "rmix@0.5+gradient",
)

FIELDS = ("train_loss", "val_loss", "mixed_loss", "gradient_norm", "partner_share", "lr")
"""Accuracies are left out: on few images one flip is a jump that no tolerance absorbs."""


def measure() -> dict[str, list[dict[str, float]]]:
    """Train two epochs under each action; return the continuous metrics of every epoch."""
    records = {}
    for name in ACTIONS:
        trainer = Trainer(tiny.digits_task(), tiny.trainer_settings())
        epochs = [trainer.reset(seed=11)]
        epochs += [trainer.run_epoch(MixAction.parse(name)) for _ in range(2)]
        records[name] = [{field: asdict(epoch)[field] for field in FIELDS} for epoch in epochs]
    return records


def write() -> None:
    """Write the golden file."""
    rounded = {
        name: [{field: float(f"{value:.6g}") for field, value in epoch.items()} for epoch in epochs]
        for name, epochs in measure().items()
    }
    FILE.write_text(json.dumps(rounded, indent=1) + "\n", encoding="utf-8")
