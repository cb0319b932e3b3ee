"""What a training cannot play is refused before it starts, wherever it is asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from automix.core.errors import ConfigError
from automix.envs import ActionSettings, MixEnv, RewardSettings
from automix.mixing.actions import PLAIN, MixAction
from automix.mixing.batch import MixSettings
from automix.training.requirements import check_playable
from automix.training.settings import SaliencySettings
from tests import tiny
from tests.cases import each
from tests.envs import worlds

SHAPE, CPU = (1, 8, 8), torch.device("cpu")
MASS = MixSettings(label_rule="saliency_mass")


@each(
    "action, changes, told",
    [
        ("cutmix@0.5", {"mix": MASS}, r"'saliency_mass' .* cutmix@0.5 names none"),
        ("comixup@0.5+spectral", {"mix": MASS}, r"comixup shows more images than two"),
        ("cutmix@0.5+ema", {}, r"moving average .* is not kept"),
        ("cutmix@0.5+teacher", {}, r"trainer\.teacher names none"),
        ("cutmix@0.5+gradient_reuse", {"saliency": SaliencySettings(scale=2)}, r"scale is 2"),
    ],
)
def test_what_the_settings_do_not_give_is_refused(action, changes, told):
    settings = replace(tiny.trainer_settings(), **changes)
    with pytest.raises(ConfigError, match=told):
        check_playable(MixAction.parse(action), settings, 10, SHAPE, CPU)


@each(
    "action, changes",
    [
        ("cutmix@0.5+spectral", {"mix": MASS}),
        ("cutmix@0.5:area", {"mix": MASS}),
        ("cutout@0.5", {"mix": MASS}),
        ("cutmix@0.5+ema", {"model_ema": True}),
        ("cutmix@0.5+gradient", {"saliency": SaliencySettings(scale=2)}),
    ],
)
def test_what_the_settings_give_is_not(action, changes):
    settings = replace(tiny.trainer_settings(), **changes)
    check_playable(MixAction.parse(action), settings, 10, SHAPE, CPU)
    check_playable(PLAIN, settings, 10, SHAPE, CPU)
    check_playable(MixAction("cutmix", 0.0, "teacher"), settings, 10, SHAPE, CPU)


def test_an_environment_refuses_its_menu_when_it_is_made():
    unguided = worlds.settings(actions=ActionSettings())
    with pytest.raises(ConfigError, match=r"'saliency_mass' .* mixup@0.1 names none"):
        MixEnv(worlds.image_world(mix=MASS), unguided)
    reference = replace(unguided, reward=RewardSettings(reference="cutmix@0.5+ema"))
    MixEnv(worlds.image_world(), reference)  # nobody plays it
    played = replace(reference, reward=replace(reference.reward, baseline="reference"))
    with pytest.raises(ConfigError, match="moving average"):
        MixEnv(worlds.image_world(), played)
