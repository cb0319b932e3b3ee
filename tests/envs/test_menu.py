"""Every mix on the menu can be played as an epoch of an episode."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from automix.core.errors import ConfigError
from automix.envs import ActionCodec, ActionSettings, MixVectorEnv
from automix.mixes import MIXES
from automix.mixing.actions import PRESETS, MixAction, form_of
from automix.training.requirements import supports
from tests.envs import worlds
from tests.step_contract import CNN, VIT

NETS = {"cnn": CNN, "vit": VIT}
"""A small net of each kind that ``automix.training.requirements.supports`` tells of."""
POINTS = [entry.name for entry in MIXES.entries() if entry.info.points]


@pytest.mark.parametrize("kind", NETS)
def test_an_episode_plays_every_mix_guided_and_not_and_tells_which(kind):
    entries = [entry for entry in MIXES.entries() if kind in supports(entry.info)]
    if kind == "vit":  # the net is slower, and does no more than the other for these
        entries = [
            e for e in entries if e.info.required(guided=False) or e.info.step or e.name == "none"
        ]
    names = [entry.name for entry in entries]
    actions = ActionSettings(methods=names, ratios=(0.3,), saliency=("off", "spectral"))
    menu = ActionCodec(actions).choices
    world = worlds.image_world(model=NETS[kind])
    group = MixVectorEnv(len(menu), world, worlds.settings("flat", actions))
    group.reset(seed=1)
    every = np.arange(len(menu))
    for _ in range(worlds.BUDGET):
        observations, rewards, _, _, infos = group.step(every)
        assert [str(mix) for mix in infos["mix"]] == [str(action) for action in menu]
        assert np.isfinite(observations).all()
        assert np.isfinite(rewards).all()
    assert {action.method for action in menu} == set(names)


@pytest.mark.parametrize("name", POINTS)
def test_a_mix_of_point_clouds_is_refused_where_images_are_trained_on(name):
    with pytest.raises(ConfigError, match="mixes point clouds"):
        ActionSettings(methods=("none", name))


@pytest.mark.parametrize("name", PRESETS)
def test_a_published_name_is_an_entry_of_the_vocabulary(name):
    form = form_of(name)
    codec = ActionCodec(ActionSettings(methods=("none", "cutmix", name), ratios=(0.25, 0.5)))
    played = codec.decode(np.array([2, 1, 0]))
    assert (played.method, played.label_rule) == (form.method, form.label_rule)
    assert played.saliency == (form.saliency or "off")
    assert played == MixAction.parse(f"{name}@0.5") == MixAction.parse(str(played))
    assert (codec.encode(played) == [2, 1, 0]).all() or played == MixAction("cutmix", 0.5)
    boxed = ActionCodec(replace(codec.settings, space="box"))
    assert boxed.decode(boxed.encode(played)) == played


def test_a_published_name_in_a_vocabulary_stands_alone():
    with pytest.raises(ConfigError, match=r"'lumix\+gradient' adds to 'lumix'") as error:
        ActionSettings(methods=("none", "lumix+gradient"))
    assert error.value.hint == "name the parts: lumix stands for cutmix:perturbed"


def test_an_entry_may_bring_its_saliency_and_others_choose_theirs():
    settings = ActionSettings(
        methods=("cutmix", "cutmix+spectral", "rmix"), ratios=(0.5,), saliency=("off", "gradient")
    )
    assert [str(choice) for choice in ActionCodec(settings).choices] == [
        "cutmix@0.5",
        "cutmix@0.5+gradient",
        "cutmix@0.5+spectral",
        "rmix@0.5",
        "rmix@0.5+gradient",
    ]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("cutmx", "'cutmx' is not a mix method. Did you mean 'cutmix'?"),
        ("cutmix@0.5", "'cutmix@0.5' is not a mix method, wanted method"),
        ("cutmix+spectrum", "'spectrum' is not a saliency provider"),
        ("cutmix:are", "'are' is not a label rule"),
    ],
)
def test_a_wrong_entry_is_refused_with_its_place(entry, reason):
    with pytest.raises(ConfigError) as error:
        ActionSettings(methods=("none", entry))
    assert error.value.message.startswith(f"env.actions.methods: {reason}")
