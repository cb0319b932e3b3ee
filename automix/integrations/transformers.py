"""Hugging Face transformers: a ``Trainer`` that mixes its training batches."""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Trainer

from automix.core.errors import ConfigError
from automix.policy.mixer import ScheduleMixer


class MixTrainer(Trainer):
    """A ``Trainer`` of image classifiers whose training batches are mixed; evaluation's are not.

    A class of one's own takes it in front: ``class Mine(MixTrainer, MyTrainer)``.

    Args:
        args: As of ``Trainer``.
        mixer: Of a schedule. Progress is the trainer's: epochs of ``num_train_epochs``, or steps of
            ``max_steps`` where that is set.
        kwargs: As of ``Trainer``. ``compute_loss_func`` is ``soft_cross_entropy`` by default.

    Raises:
        ConfigError: If ``label_smoothing_factor`` is set: the loss would not use it.
    """

    def __init__(self, *args: Any, mixer: ScheduleMixer, **kwargs: Any) -> None:
        # Of its own accord a model takes targets that are floats for several labels an image.
        kwargs["compute_loss_func"] = kwargs.get("compute_loss_func") or soft_cross_entropy
        super().__init__(*args, **kwargs)
        self.mixer = mixer
        if self.args.label_smoothing_factor:
            raise ConfigError(
                f"label_smoothing_factor is {self.args.label_smoothing_factor:g}, which the loss "
                "of mixed targets does not use",
                "leave it out and smooth in the mixer: schedule.mixer(..., label_smoothing=...)",
            )

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        """Make a step on mixed ``pixel_values`` and ``labels``.

        Raises:
            ConfigError: If the model has made a loss of its own of the targets, and taken them for
                several labels an image: a ``compute_loss`` has handed them to it.
        """
        self._tell()
        inputs = self._prepare_inputs(inputs)
        images, targets = self.mixer(
            inputs["pixel_values"], inputs["labels"], lambda images: _logits(model(images))
        )
        mixed = {**inputs, "pixel_values": images, "labels": targets}
        loss = super().training_step(model, mixed, num_items_in_batch)
        if getattr(self.model.config, "problem_type", None) == "multi_label_classification":
            raise ConfigError(
                "the model has taken the targets of mixed images for several labels an image",
                "let compute_loss take labels out of the inputs before it asks the model, as "
                "Trainer's own does, or leave it out and give MixTrainer a compute_loss_func",
            )
        return loss

    def _tell(self) -> None:
        if self.args.max_steps > 0:
            self.mixer.set_progress(self.state.global_step / self.args.max_steps)
        else:  # epochs are counted in fractions, step by step
            self.mixer.set_epoch(math.floor(self.state.epoch + 1e-6), self.args.num_train_epochs)


def soft_cross_entropy(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
    """Return the cross entropy of a micro-batch, as its share of the mean over a whole batch.

    Args:
        outputs: Of the model: logits (b, classes).
        labels: Targets (b, classes), or classes (b,) at evaluation.
        num_items_in_batch: Images of all micro-batches of the step together; those of this one if
            not given.
    """
    total = F.cross_entropy(_logits(outputs), labels, reduction="sum")
    return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)


def _logits(outputs: Any) -> Tensor:
    return outputs["logits"] if isinstance(outputs, dict) else outputs[0]
