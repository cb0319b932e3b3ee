"""The mixing trainer of Hugging Face's own models."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from automix.core.errors import ConfigError
from tests.automix.integrations.seen import (
    COUNT,
    IMAGES,
    SIDE,
    SIZE,
    by_epoch,
    mixer_of,
    wanted,
)
from tests.cases import each

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from automix.integrations.transformers import MixTrainer  # noqa: E402

pytestmark = [pytest.mark.integrations, pytest.mark.filterwarnings("ignore")]


class Digits(Dataset):
    def __init__(self, count: int = COUNT) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, at: int) -> dict:
        return {"pixel_values": IMAGES[at], "labels": at}


def vit():
    torch.manual_seed(0)
    return transformers.ViTForImageClassification(
        transformers.ViTConfig(
            image_size=SIDE,
            patch_size=16,
            num_channels=1,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            intermediate_size=8,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            num_labels=COUNT,
        )
    )


class Strict(transformers.PreTrainedModel):
    """A model that takes nothing for its loss, and then the trainer divides."""

    config_class = transformers.ViTConfig
    main_input_name = "pixel_values"

    def __init__(self, config) -> None:
        super().__init__(config)
        self.head = torch.nn.Linear(SIDE * SIDE, COUNT)
        self.post_init()

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> dict:
        logits = self.head(pixel_values.flatten(1))
        loss = {} if labels is None else {"loss": F.cross_entropy(logits, labels)}
        return {**loss, "logits": logits}


def strict():
    torch.manual_seed(0)
    return Strict(transformers.ViTConfig())


def arguments(folder, **given):
    return transformers.TrainingArguments(
        output_dir=str(folder),
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        logging_strategy="no",
        **{
            "save_strategy": "no",
            "num_train_epochs": 2,
            "per_device_train_batch_size": SIZE,
        }
        | given,
    )


class Watched(MixTrainer):
    """Notes what the net is shown."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.seen: list[Tensor] = []

    def compute_loss(self, model, inputs, *args, **kwargs):
        self.seen.append(inputs["labels"])
        return super().compute_loss(model, inputs, *args, **kwargs)


def trained(folder, mixer=None, model=None, data=None, resume=None, kind=Watched, **given):
    extra = {} if kind is transformers.Trainer else {"mixer": mixer or mixer_of()}
    trainer = kind(
        model=model or vit(),
        args=arguments(folder, **given),
        train_dataset=data or Digits(),
        eval_dataset=Digits(8),
        **extra,
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


@each("given", [{}, {"gradient_accumulation_steps": 2}, {"num_train_epochs": 3}, {"bf16": True}])
def test_the_net_sees_what_the_schedule_says(given, tmp_path):
    epochs = given.get("num_train_epochs", 2)
    trainer = trained(tmp_path, **given)
    assert trainer.compute_loss_func is not None
    found = by_epoch(trainer.seen, epochs)
    assert found == wanted(mixer_of(), epochs=epochs)
    assert set(found[0]) == {1.0}
    assert min(found[-1]) < 0.9
    assert trainer.model.config.problem_type is None, "taken for several labels an image"


def test_a_loss_that_the_model_makes_itself_is_refused(tmp_path):
    class Own(transformers.Trainer):
        def compute_loss(self, model, inputs, *args, **kwargs):
            return model(**inputs).loss

    class Mine(MixTrainer, Own):
        pass

    with pytest.raises(ConfigError, match="for several labels an image"):
        trained(tmp_path, kind=Mine)


def test_a_saliency_that_asks_the_net_gets_it(tmp_path):
    seen = trained(tmp_path, mixer=mixer_of("rmix@0.5+gradient")).seen
    assert min(by_epoch(seen)[0]) < 0.9


def test_steps_tell_the_progress_where_they_end_the_training(tmp_path):
    trainer = trained(tmp_path, max_steps=4, per_device_train_batch_size=4)
    assert [bool((targets == 1).any(1).all()) for targets in trainer.seen] == [1, 1, 0, 0]


@each("model, count", [(vit, 22), (strict, 24)])
def test_the_loss_is_the_trainers_own_under_accumulation(model, count, tmp_path):
    """Where nothing is mixed, in batches of 4, two a step; a last batch of 2 weighs half of one.

    Of a model that takes nothing for its loss, the trainer would weigh it as a whole one.
    """
    own, mixed = (
        trained(
            tmp_path,
            mixer=mixer_of("none"),
            model=model(),
            data=Digits(count),
            kind=kind,
            learning_rate=0.1,
            optim="sgd",
            gradient_accumulation_steps=2,
            per_device_train_batch_size=4,
        )
        for kind in (transformers.Trainer, MixTrainer)
    )
    for (name, wanted_), got in zip(
        own.model.named_parameters(), mixed.model.parameters(), strict=True
    ):
        torch.testing.assert_close(got, wanted_, msg=name)


def test_evaluation_is_left_alone(tmp_path):
    trainer = trained(tmp_path, mixer=mixer_of("mixup@0.25"))
    trainer.seen.clear()
    own = transformers.Trainer(
        model=trainer.model, args=arguments(tmp_path), eval_dataset=Digits(8)
    )
    assert trainer.evaluate()["eval_loss"] == pytest.approx(own.evaluate()["eval_loss"])
    assert torch.equal(torch.cat(trainer.seen), torch.arange(8))


def test_a_training_that_is_resumed_sees_what_it_would_have_seen(tmp_path):
    whole = trained(tmp_path, save_strategy="epoch").seen
    again = trained(tmp_path, resume=str(tmp_path / "checkpoint-4"))
    assert by_epoch(again.seen, 1) == by_epoch(whole)[1:]


def test_smoothing_that_would_do_nothing_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="label_smoothing_factor is"):
        trained(tmp_path, label_smoothing_factor=0.1)
