"""Callbacks in the classification training of ultralytics."""

from __future__ import annotations

from types import SimpleNamespace

import cloudpickle
import pytest
from PIL import Image

from automix.integrations.ultralytics import add_mixing
from tests.automix.integrations.seen import IMAGES, LABELS, SIDE, SIZE, by_epoch, mixer_of, wanted

pytestmark = [pytest.mark.integrations, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A net of its own description; without network, and with settings of its own."""
    monkeypatch.setenv("YOLO_OFFLINE", "true")
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    ultralytics = pytest.importorskip("ultralytics")
    for split in ("train", "val"):
        for label, image in enumerate(IMAGES[:, 0]):
            folder = tmp_path / "digits" / split / f"{label:02d}"
            folder.mkdir(parents=True)
            Image.fromarray((image * 255).byte().numpy()).save(folder / "digit.png")
    return ultralytics.YOLO("yolo11n-cls.yaml")


def seen(model, folder, **given):
    targets, validated = [], []
    model.add_callback("on_train_start", lambda trainer: watch(trainer, targets))
    model.add_callback("on_val_batch_start", lambda validator: validated.append(validator))
    model.train(
        data=str(folder / "digits"),
        project=str(folder),
        epochs=2,
        batch=SIZE,
        imgsz=SIDE,
        workers=0,
        device="cpu",
        **{"plots": False} | given,
    )
    assert validated
    return targets


def watch(trainer, targets):
    """Note what the loss is given."""
    prepare = trainer.preprocess_batch

    def watched(batch):
        batch = prepare(batch)
        targets.append(batch["cls"])
        return batch

    trainer.preprocess_batch = watched


@pytest.mark.parametrize("given", [{}, {"nbs": 2 * SIZE}], ids=["", "accumulation"])
def test_the_net_sees_what_the_schedule_says(model, given, tmp_path):
    add_mixing(model, mixer_of())
    found = by_epoch(seen(model, tmp_path, **given))
    assert found == wanted(mixer_of())
    assert set(found[0]) == {1.0}
    assert min(found[1]) < 0.9


def test_a_saliency_that_asks_the_net_gets_it(model, tmp_path):
    add_mixing(model, mixer_of("rmix@0.5+gradient"))
    assert min(by_epoch(seen(model, tmp_path))[0]) < 0.9


def test_its_own_arguments_mix_no_classification(model, tmp_path):
    """Or else they could be driven in place of the batches."""
    for labels in seen(model, tmp_path, mixup=1.0, cutmix=1.0):
        assert labels.shape == (SIZE,)


def test_pictures_show_the_class_of_the_larger_share(model, tmp_path):
    labels = []

    def watch_pictures(trainer):
        trainer.plot_training_samples = lambda batch, ni: labels.append(batch["cls"])

    model.add_callback("on_train_start", watch_pictures)
    add_mixing(model, mixer_of())
    targets = seen(model, tmp_path, plots=True)
    assert labels
    for drawn, target in zip(labels, targets, strict=False):
        assert drawn.tolist() == target.argmax(1).tolist()


def test_every_rank_gets_the_callbacks_with_one_mixer_of_its_own(model):
    """Ultralytics sends them by cloudpickle."""
    add_mixing(model, mixer_of("none", "mixup@0.25"))
    sent = cloudpickle.loads(cloudpickle.dumps(dict(model.callbacks)))
    trainer = SimpleNamespace(
        preprocess_batch=lambda batch: batch,
        plot_training_samples=None,
        model=None,
        epoch=1,
        epochs=2,
    )
    sent["on_train_start"][-1](trainer)
    sent["on_train_epoch_start"][-1](trainer)
    batch = trainer.preprocess_batch({"img": IMAGES[:SIZE], "cls": LABELS[:SIZE]})
    assert float(batch["cls"].max(1).values.min()) < 1
