"""Whether a schedule is worth in other trainers what it is worth in ours: results/drop_ins.md.

    pip install -e ".[integrations]"
    python -m results.scripts.drop_ins --seeds 16 --page results/drop_ins.md

One schedule, one net and one recipe, a constant learning rate, trained by our trainer and through
every door that others have. All meet the same images, wrong labels and first weights; batches and
draws are each trainer's own, so that differences are paired in tasks only.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import timm.data
import torch
import torch.nn.functional as F
from timm.optim import create_optimizer_v2
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from automix import MixAction, MixedLoss, MixSchedule, MixTransform, Trainer
from automix.data.tasks import FamilySettings, Task, TaskFamily, TaskSpec
from automix.integrations.timm import FastCollateMixup, Mixup
from automix.nets.create import create_classifier
from automix.policy.mixer import ScheduleMixer
from automix.training.settings import TrainerSettings
from results.scripts.pages import interval, machine, write_page

EPOCHS, BATCH, LR = 20, 50, 0.05

SETTINGS = TrainerSettings(
    model="small_cnn_w8", epochs=EPOCHS, batch_size=BATCH, lr=LR, min_lr=LR, warmup_epochs=0
)
FAMILY = FamilySettings(dataset="digits", train_sizes=(400,), label_noise=(0.3,), val_size=300)

SCHEDULE = MixSchedule([MixAction("none", 0.0)] * 4 + [MixAction("cutmix", 0.5)] * 16)
"""Clean for a fifth, then CutMix: far from not mixing on these tasks."""

Pairs = Iterable[tuple[Tensor, Tensor]]


def net_of(task: Task) -> nn.Module:
    """Return the net with the weights that our trainer gives it for this seed."""
    return create_classifier(
        SETTINGS.model, num_classes=10, shape=task.images.shape, seed=task.spec.seed
    )


def optimizer_of(net: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer that our trainer uses."""
    return create_optimizer_v2(
        net, opt="sgd", lr=LR, weight_decay=SETTINGS.weight_decay, momentum=SETTINGS.momentum
    )


def data_of(task: Task) -> TensorDataset:
    """Return scaled training images and the labels that training sees."""
    return TensorDataset(task.normalised(task.train_index), torch.from_numpy(task.train_labels))


def accuracy(task: Task, net: nn.Module) -> float:
    """Return test accuracy in points."""
    with torch.no_grad():
        answers = net.eval()(task.normalised(task.test_index)).argmax(1)
    return 100 * (answers == task.labels(task.test_index)).float().mean().item()


def looped(
    task: Task,
    mixer: ScheduleMixer,
    mix: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = lambda *batch: batch,  # type: ignore
    data: Any = None,
    **loading: Any,
) -> float:
    """Train in a loop of one's own; batches of the data, or of ``data_of``, go through ``mix``."""
    net, loader = net_of(task), DataLoader(data or data_of(task), BATCH, shuffle=True, **loading)
    optimizer = optimizer_of(net)
    for epoch in range(EPOCHS):
        mixer.set_epoch(epoch)
        for batch in loader:
            images, targets = mix(*batch)
            optimizer.zero_grad()
            F.cross_entropy(net(images), targets).backward()
            optimizer.step()
    return accuracy(task, net)


def ours(task: Task, mixer: ScheduleMixer, schedule: MixSchedule = SCHEDULE) -> float:
    """Train with this project's trainer."""
    trainer = Trainer(task, SETTINGS)
    trainer.reset(task.spec.seed)
    for epoch in range(EPOCHS):
        trainer.run_epoch(schedule.at(epoch / EPOCHS))
    images = task.split(task.test_index, torch.device("cpu"))
    answers = trainer.population.logits(images, [0])[:, 0].argmax(1)
    return 100 * (answers == task.labels(task.test_index)).float().mean().item()


def without(task: Task, mixer: ScheduleMixer) -> float:
    """Train with this project's trainer, unmixed: how much there is to lose."""
    return ours(task, mixer, MixSchedule([MixAction("none", 0.0)]))


def plain(task: Task, mixer: ScheduleMixer) -> float:
    """Ask the mixer for each batch."""
    return looped(task, mixer, mixer)


def collated(task: Task, mixer: ScheduleMixer) -> float:
    """Let two workers mix while they collate."""
    return looped(
        task, mixer, collate_fn=mixer.collate, num_workers=2, multiprocessing_context="fork"
    )


def by_loss(task: Task, mixer: ScheduleMixer) -> float:
    """Ask ``MixedLoss`` for the loss."""
    net, loader = net_of(task), DataLoader(data_of(task), BATCH, shuffle=True)
    optimizer, mixed_loss = optimizer_of(net), MixedLoss(net, mixer)
    for epoch in range(EPOCHS):
        mixer.set_epoch(epoch)
        for images, labels in loader:
            optimizer.zero_grad()
            mixed_loss(images, labels)[0].backward()
            optimizer.step()
    return accuracy(task, net)


def timm_mixup(task: Task, mixer: ScheduleMixer) -> float:
    """Put ``Mixup`` where timm's own would stand."""
    mixup = Mixup(mixer)
    assert isinstance(mixup, timm.data.Mixup)
    return looped(task, mixer, mixup)


def timm_collate(task: Task, mixer: ScheduleMixer) -> float:
    """Collate with ``FastCollateMixup``, in bytes, as timm's prefetching loader does."""
    collate = FastCollateMixup(mixer)
    pixels = (255 * task.images.pixels.read(task.train_index)).round().to(torch.uint8)
    samples = [(image, int(label)) for image, label in zip(pixels, task.train_labels, strict=True)]

    def mix(images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return (images.float() / 255 - task.mean) / task.std, targets

    return looped(task, mixer, mix, samples, collate_fn=collate)


def torchvision_transform(task: Task, mixer: ScheduleMixer) -> float:
    """Compose with ``v2``."""
    from torchvision.transforms import v2

    return looped(task, mixer, v2.Compose([v2.Identity(), MixTransform(mixer)]))


def by_lightning(task: Task, mixer: ScheduleMixer) -> float:
    """Add a callback."""
    import lightning.pytorch as pl

    from automix.integrations.lightning import MixCallback

    class Classifier(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = net_of(task)

        def training_step(self, batch: Any, _: int) -> Tensor:
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return optimizer_of(self.net)

    module = Classifier()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(
        max_epochs=EPOCHS,
        callbacks=[MixCallback(mixer)],
        accelerator="cpu",
        enable_model_summary=False,
        **quiet,
    )
    trainer.fit(module, DataLoader(data_of(task), BATCH, shuffle=True))
    return accuracy(task, module.net)


def by_transformers(task: Task, mixer: ScheduleMixer) -> float:
    """Train with ``MixTrainer``."""
    from transformers import TrainingArguments

    from automix.integrations.transformers import MixTrainer

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net_of(task)

        def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
            return {"logits": self.net(pixel_values)}

    module = Classifier()
    optimizer = optimizer_of(module.net)
    constant = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            num_train_epochs=EPOCHS,
            per_device_train_batch_size=BATCH,
            max_grad_norm=0.0,
            seed=task.spec.seed,
            report_to=[],
            use_cpu=True,
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        samples = [{"pixel_values": image, "labels": label} for image, label in data_of(task)]
        trainer = MixTrainer(
            mixer=mixer,
            model=module,
            args=arguments,
            train_dataset=samples,
            optimizers=(optimizer, constant),
        )
        trainer.train()
    return accuracy(task, module.net)


DOORS: dict[str, Callable[[Task, ScheduleMixer], float]] = {
    "our trainer": ours,
    "our trainer, never mixing": without,
    "plain loop": plain,
    "`collate` in two workers": collated,
    "`MixedLoss`": by_loss,
    "timm `Mixup`": timm_mixup,
    "timm `FastCollateMixup`, bytes": timm_collate,
    "torchvision `v2.Compose`": torchvision_transform,
    "Lightning callback": by_lightning,
    "transformers `MixTrainer`": by_transformers,
}


def main() -> None:
    """Train through every door, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--page", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    family = TaskFamily(FAMILY)
    found: dict[str, list[float]] = {name: [] for name in DOORS}
    for seed in range(args.seeds):
        task = family.task(TaskSpec(train_size=400, label_noise=0.3, seed=seed))
        for name, train in DOORS.items():
            mixer = SCHEDULE.mixer(10, epochs=EPOCHS, seed=seed)
            with torch.random.fork_rng():  # loaders of other people shuffle by the global generator
                torch.manual_seed(seed)
                found[name].append(train(task, mixer))
        print(seed, {name: round(scores[-1], 1) for name, scores in found.items()}, flush=True)  # noqa: T201
    reference = np.array(found["our trainer"])
    rows = [
        f"| {name} | {np.mean(own):.1f} | "
        f"{'' if name == 'our trainer' else interval(np.array(own) - reference)} |"
        for name, own in found.items()
    ]
    lines = [
        "# Drop-ins: one schedule through every door",
        "",
        f"Digits, 400 images, 30 % wrong labels, small_cnn_w8, {EPOCHS} epochs, constant rate {LR}, "
        "clean for a fifth and then `cutmix@0.5`. Test accuracy in points; differences paired in "
        f"images, wrong labels and first weights, 95 % intervals over {args.seeds} tasks "
        f"(bootstrap). {machine()}.",
        "",
        f"```\npython -m results.scripts.drop_ins --seeds {args.seeds} --page results/drop_ins.md\n```",
        "",
        "| trained by | accuracy | minus our trainer |",
        "|---|---|---|",
        *rows,
        "",
        "",
    ]
    write_page(args.page, "\n".join(lines))


if __name__ == "__main__":
    main()
