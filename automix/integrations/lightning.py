"""Lightning: a callback that mixes what ``training_step`` is given."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from automix.core.errors import ConfigError
from automix.policy.mixer import ScheduleMixer


class MixCallback(Callback):
    """Mixes each training batch on its device; validation and test batches stay as they are.

    A callback has no ``on_after_batch_transfer``. ``on_train_batch_start`` comes right after it,
    with the very batch that ``training_step`` gets, so images and labels are replaced in there.

    Args:
        mixer: Of a schedule. Progress is the trainer's: epochs of ``max_epochs``, or steps of
            ``max_steps``, whichever is further.
        images: Where the images are in a batch, a list or a dictionary.
        labels: Where the labels are.
    """

    def __init__(self, mixer: ScheduleMixer, images: int | str = 0, labels: int | str = 1) -> None:
        self.mixer, self.images, self.labels = mixer, images, labels

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Replace images by mixed ones, and labels by targets (b, classes).

        Raises:
            ConfigError: If the batch cannot be written to, or the trainer has no end.
        """
        _check_writable(batch)
        _tell(self.mixer, trainer)
        images, labels = batch[self.images], batch[self.labels]
        batch[self.images], batch[self.labels] = self.mixer(images, labels, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return the mixer's state, for the trainer's checkpoint."""
        return self.mixer.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint of the trainer."""
        self.mixer.load_state_dict(state_dict)


def _check_writable(batch: Any) -> None:
    if not isinstance(batch, list | dict):
        raise ConfigError(
            f"the batch is a {type(batch).__name__}, wanted a list or a dictionary",
            "let collate_fn return a list, [images, labels], as the default one does",
        )


def _tell(mixer: ScheduleMixer, trainer: Trainer) -> None:
    """Tell the epoch, or the share of steps where that end is nearer."""
    epochs, steps = trainer.max_epochs or -1, trainer.max_steps  # -1 says that there is none
    by_step = trainer.global_step / steps if steps > 0 else -1.0
    if epochs > 0 and trainer.current_epoch / epochs >= by_step:
        mixer.set_epoch(trainer.current_epoch, epochs)
    elif steps > 0:
        mixer.set_progress(by_step)
    else:
        raise ConfigError(
            "the trainer has neither max_epochs nor max_steps, so nobody knows the progress",
            "give Trainer one of them",
        )
