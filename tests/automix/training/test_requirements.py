"""What a net offers and a training run is asked for, and what an error says before it starts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from automix.core.errors import ConfigError
from automix.core.registry import NetInfo
from automix.envs import ActionSettings, MixEnv, RewardSettings
from automix.labels import LABEL_RULES, LabelInfo
from automix.mixes import MIXES, MixInfo
from automix.mixing.actions import PLAIN, MixAction
from automix.mixing.batch import MixSettings
from automix.nets.create import SMALL_NETS
from automix.saliency import SALIENCY
from automix.training.requirements import (
    ABILITIES,
    KINDS,
    abilities_of,
    check_backbone,
    check_playable,
    nets_with,
    requirements,
    supports,
)
from automix.training.settings import SaliencySettings
from tests import tiny
from tests.cases import each
from tests.envs import worlds

SHAPE = (1, 8, 8)
BLIND = "dropout_cnn_for_tests"
"""A net that shows no feature map (``tests.tiny``)."""

ENTRIES = [entry for registry in (MIXES, LABEL_RULES, SALIENCY) for entry in registry.entries()]


def test_every_requirement_has_a_name_that_is_known():
    for entry in ENTRIES:
        assert set(entry.info.required(guided=False)) <= set(ABILITIES), entry.name
        assert supports(entry.info), entry.name


def test_an_entry_supports_the_kinds_of_net_that_have_what_it_requires():
    assert supports(NetInfo()) == supports(MixInfo(requires=("stages",))) == ("cnn", "vit")
    assert supports(LabelInfo(requires=("attention", "features"))) == ("vit",)
    assert supports(MixInfo(points=True)) == ("points",)


@each("ability", ABILITIES)
def test_kinds_say_what_nets_have(ability):
    """As soon as any net has it: an ability that none has yet says nothing of the kinds."""
    tokens = VisionTransformer(
        img_size=8, patch_size=2, in_chans=1, num_classes=3, embed_dim=8, depth=2, num_heads=2
    )
    has = ABILITIES[ability]
    if has(tokens):
        assert ability in KINDS["vit"]
        small = abilities_of("small_cnn_w8", 10, SHAPE)
        assert (ability in KINDS["cnn"]) == (ability in small)
    else:
        assert not any(ability in entry.info.required(guided=False) for entry in ENTRIES)


@each(
    "action, rule, wanted",
    [
        ("none", "looking_rule", []),
        ("cutmix@0.5", "area", []),
        ("cutmix@0.5", "looking_rule", [("looking_rule", "features")]),
        ("cutmix@0.5:area", "looking_rule", []),
        ("cutout@0.5", "looking_rule", []),  # it keeps its label
        ("cutmix@0.5+looking_maps", "area", [("looking_maps", "features")]),
        ("looking_mix@0.5", "area", [("looking_mix", "features")]),
        ("looking_mix@0.0", "area", []),
    ],
)
def test_an_action_needs_what_its_parts_need(registered, action, rule, wanted):
    assert list(requirements(MixAction.parse(action), rule)) == wanted


@each(
    "action, who, kind, works",
    [
        ("looking_mix@0.5", "looking_mix", "mix method", "cutmix"),
        ("cutmix@0.5+looking_maps", "looking_maps", "saliency provider", "spectral"),
        ("cutmix@0.5:looking_rule", "looking_rule", "label rule", "requested"),
    ],
)
def test_a_refusal_names_nets_that_would_do_and_what_this_net_can_play(
    registered, action, who, kind, works
):
    with pytest.raises(ConfigError) as error:
        check_backbone(MixAction.parse(action), "area", BLIND, 10, SHAPE)
    assert error.value.message == (
        f"{action} cannot be played: {who} needs the features of the net, which "
        f"trainer.model={BLIND} does not show"
    )
    nets, _, others = error.value.hint.partition("; ")
    assert nets == f"nets that show it: {', '.join(SMALL_NETS[:3])}"
    head, _, names = others.partition(": ")
    assert head == f"each {kind} that {BLIND} can play"
    assert works in names.split(", ")
    assert who not in names.split(", ")
    assert "pointcutmix" not in names
    check_backbone(MixAction.parse(action), "area", "small_cnn_w8", 10, SHAPE)


def test_nets_that_cannot_take_the_images_are_not_named():
    """DeiT wants multiples of 4."""
    found = {size: list(nets_with({"features"}, 10, (3, size, size))) for size in (8, 9)}
    assert "deit_small_patch4_32" in found[8]
    assert "deit_small_patch4_32" not in found[9]
    assert found[9][: len(SMALL_NETS)] == list(SMALL_NETS)


def test_where_no_net_of_ours_would_do_timms_are_named(monkeypatch):
    monkeypatch.setattr("automix.training.requirements.nets_with", lambda *_: iter(()))
    monkeypatch.setattr(MixInfo, "required", lambda self, *, guided: ("attention",))
    monkeypatch.setattr("automix.training.requirements.abilities_of", lambda *_: frozenset())
    with pytest.raises(ConfigError, match="cutmix needs the attention") as error:
        check_backbone(MixAction("cutmix", 0.5), "area", "small_cnn_w8", 10, SHAPE)
    assert "take one of timm's" in error.value.hint


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
