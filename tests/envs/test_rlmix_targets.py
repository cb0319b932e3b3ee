"""Batch by batch, too, targets are those of the label rule and of what the training has learned."""

from __future__ import annotations

import numpy as np
import pytest

from automix.core.errors import ConfigError
from automix.envs.rlmix.env import RLMixEnv
from automix.envs.rlmix.training import BatchTraining
from automix.mixing.batch import MixSettings
from automix.training.population import Population
from automix.training.settings import SelfAdaptiveSettings
from tests import tiny
from tests.envs import worlds


def losses(**changes: object) -> list[float]:
    """Mixed losses of two epochs."""
    settings = tiny.trainer_settings(**changes)
    training = BatchTraining(Population([tiny.digits_task()], settings), 0)
    for _ in range(2):
        training.begin_epoch()
        for _ in range(training.steps_per_epoch):
            shown = len(training.look().maps)
            training.step(np.full(shown, 4))
    return [record.mixed_loss for record in training.history[1:]]


@pytest.mark.parametrize("rule", ["perturbed", "saliency_mass", "visibility"])
def test_a_label_rule_reaches_the_step(rule):
    assert losses(mix=MixSettings(label_rule=rule)) != losses()


def test_what_a_rule_sees_of_attention_reaches_the_step():
    model = {"model": "vit_digits"}
    assert losses(mix=MixSettings(label_rule="token_aligned"), **model) != losses(**model)


def test_a_rule_that_the_net_cannot_show_anything_is_refused_when_the_environment_is_made():
    with pytest.raises(ConfigError, match="attention needs the attention of the net"):
        RLMixEnv(worlds.image_world(mix=MixSettings(label_rule="attention")))


def test_settings_of_a_rule_and_the_classifiers_say_reach_the_step():
    still, strong = (
        MixSettings(
            label_rule="perturbed",
            options=["perturbed.noise=0", f"perturbed.strength={strength}"],
        )
        for strength in (0, 0.9)
    )
    assert losses(mix=still) == losses()
    assert losses(mix=strong) != losses()


def test_adapted_targets_are_trained_on_from_the_next_epoch():
    adapted = losses(self_adaptive=SelfAdaptiveSettings(start_epoch=1, momentum=0.2))
    assert adapted[0] == losses()[0]
    assert adapted[1] != losses()[1]
