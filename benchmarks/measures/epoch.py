"""One epoch of a training against a bare loop of the same net without mixing.

python -m benchmarks --only epoch
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from timm.optim import create_optimizer_v2

from automix.agents.parallel.machine import keep_memory
from automix.core.seeding import generator
from automix.data.tasks import Task
from automix.mixing.actions import MixAction
from automix.nets.create import create_classifier
from automix.training.population import Trainer
from automix.training.settings import SaliencySettings, TrainerSettings
from benchmarks.harness import Section, Target, interleaved, threads
from benchmarks.synthetic import noise_task

SECONDS = 70.0


@dataclass(frozen=True)
class Size:
    """A training to time."""

    name: str
    task: Task
    settings: TrainerSettings


ENDLESS = TrainerSettings(epochs=100_000, sched="step", warmup_epochs=0, lr=0.01)
"""No reset falls into the clock."""

SIZES = (
    Size("digits: 8 px, w8, batch 50", noise_task(8, 1, 400, 300), ENDLESS),
    Size(
        "32 px, w32, batch 128",
        noise_task(32, 3, 512, 128),
        replace(ENDLESS, model="small_cnn_w32", batch_size=128),
    ),
)

GRADIENT = {
    "every step": SaliencySettings(),
    "half size": SaliencySettings(scale=2),
    "every 2nd step": SaliencySettings(refresh=2),
    "every 2nd step, half size": SaliencySettings(refresh=2, scale=2),
    "every 4th step": SaliencySettings(refresh=4),
    "of the step itself": SaliencySettings(source="step"),
}
"""The forms of gradient saliency, the papers' first."""

CHEAP = "every 4th step"
"""The form that is meant to meet the target."""


def run(seconds: float) -> Section:
    """Time epochs of each size."""
    keep_memory()
    rows: list[dict[str, object]] = []
    with threads(1):
        for size in SIZES:
            took = interleaved(_cases(size), seconds / len(SIZES))
            bare = took.pop("no mixing, bare loop")
            rows += [
                {"training": size.name, "plays": plays, "ms": 1e3 * s, "times bare": s / bare}
                for plays, s in took.items()
            ]
    unguided = {f"{r['plays']}, {r['training']}": r["times bare"] for r in rows if _is_free(r)}
    guided = {
        str(r["training"]): r["times bare"] for r in rows if str(r["plays"]).endswith(f"({CHEAP})")
    }
    return Section(
        title="Epoch",
        about="One epoch of one training, measuring included, one thread, against a plain PyTorch "
        "loop of the same net, batches and measuring that mixes nothing.",
        columns=("training", "plays", "ms", "times bare"),
        rows=rows,
        targets=[
            Target.of("epoch with an unguided mix, times bare", unguided, at_most=1.10),  # type: ignore[arg-type]
            Target.of(f"epoch with gradient saliency ({CHEAP}), times bare", guided, at_most=1.40),  # type: ignore[arg-type]
        ],
    )


def _is_free(row: dict[str, object]) -> bool:
    return "gradient" not in str(row["plays"])


def _cases(size: Size) -> dict[str, Callable[[], object]]:
    """Return what is timed; every training has seen an epoch, so that nothing is set up late."""
    cases: dict[str, Callable[[], object]] = {"no mixing, bare loop": _bare(size)}
    for method in ("none", "mixup", "cutmix", "rmix"):  # all others: benchmarks.measures.menu
        cases[method] = _epochs(size, MixAction(method, 0.5 if method != "none" else 0.0))
    for name, form in GRADIENT.items():
        settings = replace(size.settings, saliency=form)
        action = MixAction("rmix", 0.5, "gradient")
        cases[f"{action} ({name})"] = _epochs(replace(size, settings=settings), action)
    return cases


def _epochs(size: Size, action: MixAction) -> Callable[[], object]:
    trainer = Trainer(size.task, size.settings)
    trainer.reset(0)
    return lambda: trainer.run_epoch(action)


def _bare(size: Size) -> Callable[[], object]:
    """Return an epoch as one would write it by hand."""
    task, settings = size.task, size.settings
    net = create_classifier(settings.model, num_classes=10, shape=task.images.shape, seed=0)
    net = net.to(memory_format=torch.channels_last)
    optimizer = create_optimizer_v2(net, opt=settings.opt, lr=0.01, momentum=0.9, fused=True)
    images, labels = task.normalised(task.train_index), torch.from_numpy(task.train_labels)
    probe = images[: settings.probe_size]
    seen = torch.cat([probe, task.normalised(task.val_index)])
    seen_labels = torch.cat([labels[: len(probe)], task.labels(task.val_index)])
    rng = generator(0)

    def epoch() -> tuple[float, float]:
        net.train()
        order = torch.from_numpy(rng.permutation(len(images)))
        for index in order.split(settings.batch_size):
            optimizer.zero_grad()
            F.cross_entropy(net(images[index]), labels[index]).backward()
            optimizer.step()
        net.eval()
        with torch.no_grad():
            logits = torch.cat([net(part) for part in seen.split(128)])
            loss = F.cross_entropy(logits, seen_labels)
            right = (logits.argmax(1) == seen_labels).float().mean()
        return float(loss), float(right)

    return epoch
