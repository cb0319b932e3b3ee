"""The callback in Lightning's own Trainer."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from automix.core.errors import ConfigError
from tests.automix.integrations.seen import COUNT, IMAGES, LABELS, SIZE, by_epoch, mixer_of, wanted
from tests.cases import each

lightning = pytest.importorskip("lightning.pytorch")

pytestmark = [pytest.mark.integrations, pytest.mark.filterwarnings("ignore")]


class Net(lightning.LightningModule):
    """A user's module that knows of no mixing."""

    def __init__(self, images: int | str = 0, labels: int | str = 1) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(32 * 32, COUNT))
        self.at, self.seen, self.validated = (images, labels), [], []

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)

    def training_step(self, batch, batch_idx):
        images, targets = (batch[key] for key in self.at)
        self.seen.append(targets)
        return F.cross_entropy(self(images), targets)

    def validation_step(self, batch, batch_idx):
        self.validated.append(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def trainer_of(folder, callback, **given):
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    return lightning.Trainer(
        accelerator="cpu",
        callbacks=[callback],
        default_root_dir=folder,
        **quiet,
        **{"max_epochs": 2} | given,
    )


def loader(**given) -> DataLoader:
    return DataLoader(TensorDataset(IMAGES, LABELS), SIZE, shuffle=True, **given)


def callback_of(*actions: str, **given):
    from automix.integrations.lightning import MixCallback

    return MixCallback(mixer_of(*actions), **given)


def seen(folder, net=None, data=None, **given) -> list[Tensor]:
    net = net or Net()
    trainer_of(folder, callback_of(), **given).fit(net, data or loader())
    return net.seen


@each(
    "given",
    [{}, {"accumulate_grad_batches": 2}, {"precision": "bf16-mixed"}, {"max_epochs": 3}],
)
def test_the_net_sees_what_the_schedule_says(given, tmp_path):
    epochs = given.get("max_epochs", 2)
    found = by_epoch(seen(tmp_path, **given), epochs)
    assert found == wanted(mixer_of(), epochs=epochs)
    assert set(found[0]) == {1.0}
    assert min(found[-1]) < 0.9


def test_a_saliency_that_asks_the_net_gets_it(tmp_path):
    net = Net()
    trainer_of(tmp_path, callback_of("rmix@0.5+gradient"), max_epochs=1).fit(net, loader())
    assert min(by_epoch(net.seen, 1)[0]) < 0.9


def test_validation_is_left_alone(tmp_path):
    net = Net()
    held = DataLoader(TensorDataset(IMAGES, LABELS), SIZE)
    callback = callback_of("mixup@0.25")
    trainer_of(tmp_path, callback, num_sanity_val_steps=0).fit(net, loader(), held)
    for (images, labels), (x, y) in zip(net.validated, [*held, *held], strict=True):
        assert torch.equal(images, x)
        assert torch.equal(labels, y)


def test_steps_tell_the_progress_where_they_end_the_training(tmp_path):
    """Two of four steps are the first half, in the middle of an epoch of six steps."""
    data = DataLoader(TensorDataset(IMAGES, LABELS), 4)
    plain = [
        bool((targets.max(1).values == 1).all())
        for targets in seen(tmp_path, data=data, max_epochs=-1, max_steps=4)
    ]
    assert plain == [True, True, False, False]


def test_a_training_that_is_resumed_sees_what_it_would_have_seen(tmp_path):
    whole = seen(tmp_path)
    trainer = trainer_of(tmp_path, callback_of(), max_epochs=1)
    trainer.fit(Net(), loader())
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    again = Net()
    trainer_of(tmp_path, callback_of()).fit(again, loader(), ckpt_path=tmp_path / "half.ckpt")
    assert by_epoch(again.seen, 1) == by_epoch(whole)[1:]


def test_batches_are_lists_or_dictionaries_and_those_of_the_loader_stay_as_they_are(tmp_path):

    def given(batch) -> DataLoader:
        return DataLoader([batch] * 4, batch_size=None, collate_fn=lambda one: one)

    batch = {"pixels": IMAGES[:6], "class": LABELS[:6]}
    net, callback = Net("pixels", "class"), callback_of(images="pixels", labels="class")
    trainer_of(tmp_path, callback).fit(net, given(batch))
    assert by_epoch(net.seen)[0] != by_epoch(net.seen)[1]
    assert batch["class"] is not net.seen[0]
    assert batch["class"].shape == (6,)
    with pytest.raises(ConfigError, match="the batch is a tuple, wanted a list"):
        seen(tmp_path, data=given((IMAGES[:6], LABELS[:6])))


def test_a_trainer_without_an_end_has_no_progress(tmp_path):
    with pytest.raises(ConfigError, match="neither max_epochs nor max_steps"):
        seen(tmp_path, max_epochs=-1)
