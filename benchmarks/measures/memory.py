"""Peak memory of populations, against what their members must hold.

python -m benchmarks --only memory
"""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import torch
import torch.nn.functional as F

from automix.agents.parallel.machine import keep_memory
from automix.mixing.actions import MixAction
from automix.nets.create import create_classifier
from benchmarks.harness import Section, Target
from benchmarks.measures.population import SETTINGS, population
from benchmarks.measures.startup import ROOT

SECONDS = 50.0

MEMBERS = (64, 128, 256, 512)

WEIGHT_COPIES = 3
"""Weights, gradients, momentum."""


def run(seconds: float) -> Section:
    """Start a process for each size, so that none finds what another has left."""
    own = needed()
    peaks = {k: _peak(k) for k in MEMBERS}
    rows: list[dict[str, object]] = [
        {
            "members": k,
            "peak MB": peak / 1e6,
            "needed MB": k * own / 1e6,
            "times needed": peak / (k * own),
        }
        for k, peak in peaks.items()
    ]
    slope, start = np.polyfit(list(peaks), list(peaks.values()), 1)
    line = [abs(slope * k + start - peak) / peak for k, peak in peaks.items()]
    ratios = {f"{row['members']} members": float(str(row["times needed"])) for row in rows}
    return Section(
        title="Memory",
        about="Growth of the resident set over training digits populations of 200 images for two "
        "epochs, each in a process of its own. Needed: weights, gradients, momentum and what "
        "autograd keeps of one batch, summed over all members as if none could wait for another.",
        columns=("members", "peak MB", "needed MB", "times needed"),
        rows=rows,
        targets=[
            Target.of("memory of a population, times what its members need", ratios, at_most=1.3),
            Target.of(
                "its distance from a straight line in the number of members",
                {f"{k} members": 100 * off for k, off in zip(peaks, line, strict=True)},
                at_most=10,
                unit="%",
            ),
        ],
        notes=[
            "Stacks train one after the other, and only one at a time holds activations: that is "
            "why the peak lies below the sum."
        ],
    )


def needed() -> int:
    """Return the bytes that one digits training holds at its peak, counted."""
    net = create_classifier(SETTINGS.model, num_classes=10, shape=(1, 8, 8), seed=0)
    weights = {p.data_ptr(): p.numel() * p.element_size() for p in net.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = net(torch.zeros(SETTINGS.batch_size, 1, 8, 8))
        loss = F.cross_entropy(logits, torch.full_like(logits, 0.1))
    loss.backward()
    activations = sum(size for at, size in kept.items() if at not in weights)
    return WEIGHT_COPIES * sum(weights.values()) + activations


def _peak(members: int) -> int:
    words = [sys.executable, "-m", "benchmarks.measures.memory", str(members)]
    done = subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return int(json.loads(done.stdout.splitlines()[-1]))


def growth(members: int) -> int:
    """Return by how many bytes the resident set of this process grows at most (Linux)."""
    keep_memory()
    torch.set_num_threads(1)
    small = population(1)  # what is loaded late is loaded now
    small.run_epoch([MixAction("cutmix", 0.5)])
    before = _high_water()
    made = population(members)
    for _ in range(2):
        made.run_epoch([MixAction("cutmix", 0.5)] * members)
    return _high_water() - before


def _high_water() -> int:
    with open("/proc/self/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":  # of a process of its own
    print(json.dumps(growth(int(sys.argv[1]))))
