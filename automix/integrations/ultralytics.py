"""ultralytics: callbacks that mix the batches of a ``classify`` training.

Its own arguments ``mixup`` and ``cutmix`` cannot be driven: they belong to the transforms of
detection, and classification builds none of these.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from automix.policy.mixer import ScheduleMixer


def add_mixing(model: Any, mixer: ScheduleMixer) -> None:
    """Let a model train on mixed batches; those of validation stay as they are.

    Args:
        model: A ``YOLO`` of the task ``classify``.
        mixer: Of a schedule; progress is the trainer's, epochs of ``epochs``.
    """

    def on_train_start(trainer: Any) -> None:
        prepare, draw = trainer.preprocess_batch, trainer.plot_training_samples

        def mixed(batch: dict[str, Tensor]) -> dict[str, Tensor]:
            batch = prepare(batch)
            batch["img"], batch["cls"] = mixer(batch["img"], batch["cls"], trainer.model)
            return batch

        def drawn(batch: dict[str, Tensor], ni: int) -> None:
            draw({**batch, "cls": batch["cls"].argmax(1)}, ni)

        trainer.preprocess_batch, trainer.plot_training_samples = mixed, drawn

    def on_train_epoch_start(trainer: Any) -> None:
        mixer.set_epoch(trainer.epoch, trainer.epochs)

    model.add_callback("on_train_start", on_train_start)
    model.add_callback("on_train_epoch_start", on_train_epoch_start)
