"""The word ``all`` among the actions: what images and classifier can play, by name."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from itertools import product

import pytest

from automix.core.errors import ConfigError
from automix.envs import ActionCodec, ActionSettings, EnvSettings, MixEnv, MixVectorEnv
from automix.envs.vocabulary import every_entry, expanded
from automix.mixes import MIXES
from automix.mixing.actions import PRESETS, MixAction
from automix.mixing.batch import MixSettings
from automix.training.requirements import requirements
from automix.training.settings import SaliencySettings
from tests.envs import worlds

BLIND = "dropout_cnn_for_tests"
"""A net that shows no feature map."""

EVERY = ActionSettings(methods=("all",), ratios=(0.5,))


pytestmark = pytest.mark.usefixtures("registered")


def names_of(settings: ActionSettings, **trainer) -> ActionSettings:
    return expanded(settings, worlds.image_world(**trainer).check)


def test_all_methods_are_every_method_for_images_and_every_published_name_that_adds_to_them():
    methods = names_of(EVERY).methods
    points = {entry.name for entry in MIXES.entries() if entry.info.points}
    assert methods[0] == "none"
    assert points
    assert not points & set(methods)
    assert {"mixup", "cutmix", "looking_mix", "snapmix", "lumix"} <= set(methods)
    assert set(methods) <= set(every_entry()) == (set(MIXES) - points) | set(PRESETS)
    assert len(methods) == len(set(methods))


def test_everything_that_is_offered_can_be_played():
    world = worlds.image_world()
    offered = expanded(replace(EVERY, saliency=("all",)), world.check)
    world.check(ActionCodec(offered).choices)


def test_what_the_net_cannot_do_is_no_choice_and_no_mask_hides_anything():
    choices: dict[str, set[str]] = {}
    for model, space in product(("small_cnn_w8", BLIND), worlds.SPACES):
        world = worlds.image_world(model=model)
        actions = replace(EVERY, saliency=("all",), space=space)
        env = MixEnv(world, EnvSettings(actions=actions))
        offered = {str(action) for action in env.codec.choices}
        assert choices.setdefault(model, offered) == offered, space
        assert env.action_masks().all()
    assert choices[BLIND] < choices["small_cnn_w8"]
    gone = choices["small_cnn_w8"] - choices[BLIND]
    assert {"looking_mix@0.5", "cutmix@0.5+looking_maps"} <= gone
    assert all([*requirements(MixAction.parse(action), "area")] for action in gone)


def test_one_line_of_the_log_says_what_is_left_out_and_why(caplog):
    with caplog.at_level(logging.INFO, logger="automix"):
        names_of(replace(EVERY, saliency=("all",)), model=BLIND)
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith("'all' leaves out ")
    reason = re.escape(
        f"(needs the features of the net, which trainer.model={BLIND} does not show)"
    )
    assert re.search(rf"looking_maps, [^;(]*looking_mix[^;(]* {reason}", line)
    assert "ema (" in line
    assert "rmix" not in line

    caplog.clear()
    with caplog.at_level(logging.INFO, logger="automix"):
        assert names_of(ActionSettings()) == ActionSettings()
    assert not caplog.records


def test_what_the_trainers_label_rule_does_not_fit_is_left_out():
    settings = replace(EVERY, saliency=("off", "spectral"))
    methods = names_of(settings, mix=MixSettings(label_rule="saliency_mass")).methods
    assert "cutout" in methods  # it keeps its label
    assert "saliencymix" in methods  # it brings the maps
    assert not {"cutmix", "mixup", "fmix"} & set(methods)  # without maps where they are off


def test_all_saliency_is_off_and_what_can_guide_something():
    actions = ActionSettings(methods=("none", "cutmix"), ratios=(0.5,), saliency=("all",))
    here = names_of(actions, saliency=SaliencySettings(scale=2)).saliency
    assert here[0] == "off"
    assert {"gradient", "spectral", "looking_maps"} <= set(here)
    assert not {"ema", "teacher", "gradient_reuse"} & set(here)
    assert "ema" in names_of(actions, model_ema=True).saliency
    unguided = replace(actions, methods=("none", "mixstyle"))
    assert names_of(unguided).saliency == ("off",)


def test_a_published_name_for_what_is_there_already_is_no_second_choice():
    assert "saliencymix" in names_of(EVERY).methods
    assert "saliencymix" not in names_of(replace(EVERY, saliency=("off", "spectral"))).methods


def test_what_is_named_beside_all_is_offered_whatever_it_adds():
    settings = replace(EVERY, methods=("rmix", "all", "saliencymix"), saliency=("off", "spectral"))
    methods = names_of(settings).methods
    assert methods[:2] == ("rmix", "none")
    assert methods.count("saliencymix") == methods.count("rmix") == 1


def test_what_is_named_and_cannot_be_played_is_an_error():
    for actions, said in (
        ({"methods": ("all", "looking_mix")}, "looking_mix needs the features"),
        ({"methods": ("none", "looking_mix")}, "looking_mix needs the features"),
        ({"methods": ("none", "cutmix:looking_rule")}, "looking_rule needs the features"),
        ({"methods": ("all",), "saliency": ("looking_maps",)}, "looking_maps needs the features"),
        ({"saliency": ("off", "looking_maps")}, "looking_maps needs the features"),
        ({"methods": ("cutmix",), "saliency": ("all", "ema")}, "moving average"),
    ):
        settings = EnvSettings(actions=ActionSettings(**actions))
        with pytest.raises(ConfigError, match=said):
            MixEnv(worlds.image_world(model=BLIND), settings)
        with pytest.raises(ConfigError, match=said):
            MixVectorEnv(2, worlds.image_world(model=BLIND), settings)
    with pytest.raises(ConfigError, match="'all' among the actions is not expanded"):
        ActionCodec(EVERY)


def test_an_episode_plays_what_all_stands_for(monkeypatch):
    few = {name: MIXES._entries[name] for name in ("none", "cutmix", "mixup", "pointcutmix")}
    monkeypatch.setattr(MIXES, "_entries", few)
    monkeypatch.setattr("automix.envs.vocabulary.PRESETS", {"lumix": PRESETS["lumix"]})
    group = MixVectorEnv(2, worlds.image_world(), EnvSettings(actions=EVERY))
    group.reset(seed=1)
    _, _, _, _, infos = group.step(group.action_space.sample() * 0 + [[1, 0, 0], [3, 0, 0]])
    assert list(infos["mix"]) == ["cutmix@0.5", "cutmix@0.5:perturbed"]
    played = [MixAction.parse(text) for text in infos["mix"]]
    assert set(played) < set(group._groups.groups[0].codec.choices)
