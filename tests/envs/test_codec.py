"""A policy's numbers and the mixes they stand for."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from gymnasium import spaces

from automix.core.errors import ConfigError
from automix.envs import ActionCodec, ActionSettings
from automix.mixes import MIXES, MixInfo
from automix.mixing.actions import PLAIN, MixAction
from tests.envs import worlds

every_space = pytest.mark.parametrize("space", worlds.SPACES)

MENUS = {
    "default": ActionSettings(),
    "guided": worlds.GUIDED,
    "only guided": ActionSettings(methods=("rmix", "cutmix"), saliency=("spectral",)),
    "no none": ActionSettings(methods=("cutmix",), ratios=(0.5,)),
    "none by its ratio": ActionSettings(methods=("mixup",), ratios=(0.0, 0.3)),
    "none last": ActionSettings(methods=("rmix", "none"), ratios=(0.5, 0.1)),
}
every_menu = pytest.mark.parametrize("menu", MENUS.values(), ids=MENUS.keys())


def samples(codec: ActionCodec) -> list[np.ndarray]:
    """Every sample of the space."""
    if isinstance(codec.space, spaces.Discrete):
        return [np.int64(i) for i in range(codec.space.n)]
    return [np.array(index) for index in product(*(range(n) for n in codec.space.nvec))]


@every_menu
@every_space
def test_every_choice_survives_the_way_to_numbers_and_back(menu, space):
    codec = ActionCodec(replace(menu, space=space))
    for action in codec.choices:
        sample = codec.encode(action)
        assert codec.space.contains(sample)
        assert codec.decode(sample) == action


@every_menu
@every_space
def test_every_sample_plays_a_choice_and_every_choice_can_be_played(menu, space):
    codec = ActionCodec(replace(menu, space=space))
    played = [codec.decode(sample) for sample in samples(codec)]
    assert set(played) == set(codec.choices)


@every_menu
def test_both_spaces_offer_the_same_choices_each_once(menu):
    flat, factored = (ActionCodec(replace(menu, space=s)) for s in ("flat", "factored"))
    assert flat.choices == factored.choices
    assert len(set(flat.choices)) == len(flat.choices) == flat.space.n


def test_the_menu_is_in_the_order_of_the_settings_with_none_first():
    settings = ActionSettings(methods=("rmix", "none"), ratios=(0.5, 0.1), saliency=("off",))
    assert [str(action) for action in ActionCodec(settings).choices] == [
        "none",
        "rmix@0.5",
        "rmix@0.1",
    ]


@pytest.mark.parametrize(
    ("sample", "played"),
    [
        ([0, 0, 0], "none"),
        ([0, 2, 0], "none"),
        ([0, 2, 2], "none"),
        ([1, 0, 0], "mixup@0.1"),
        ([2, 1, 1], "cutmix@0.25+gradient"),
        ([3, 2, 2], "rmix@0.5+spectral"),
    ],
)
def test_the_factored_space_is_method_ratio_saliency(sample, played):
    assert str(ActionCodec(worlds.GUIDED).decode(np.array(sample))) == played


def test_ratio_0_is_none_whatever_the_method():
    settings = ActionSettings(methods=("cutmix", "mixup"), ratios=(0.5, 0.0))
    codec = ActionCodec(settings)
    assert codec.decode(np.array([1, 1, 0])) == PLAIN
    assert PLAIN in codec.choices


@pytest.mark.parametrize("saliency", [("off", "spectral"), ("spectral",)])
@every_space
def test_saliency_is_dropped_where_the_method_has_no_guided_form(monkeypatch, space, saliency):
    """And what is then played is on the menu, so that it can be exported and replayed."""
    unguided = replace(MIXES.entry("mixup"), info=MixInfo())
    monkeypatch.setitem(MIXES._entries, "mixup", unguided)
    settings = ActionSettings(methods=("mixup", "cutmix"), ratios=(0.5,), saliency=saliency)
    codec = ActionCodec(replace(settings, space=space))
    played = {str(codec.decode(sample)) for sample in samples(codec)}
    unguided_cutmix = {"cutmix@0.5"} if "off" in saliency else set()
    assert played == {"mixup@0.5", "cutmix@0.5+spectral"} | unguided_cutmix
    assert played == {str(action) for action in codec.choices}


def test_an_action_off_the_menu_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"mixup@0.3 is not among the actions") as error:
        ActionCodec(ActionSettings()).encode(MixAction("mixup", 0.3))
    assert "env.actions" in error.value.hint


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"methods": ()}, "env.actions.methods is empty"),
        ({"ratios": ()}, "env.actions.ratios is empty"),
        ({"saliency": ()}, "env.actions.saliency is empty"),
        ({"methods": ("mixup", "mixup")}, "env.actions.methods names something twice"),
        ({"ratios": (0.1, 0.1)}, "env.actions.ratios names something twice"),
        ({"methods": ("cutmx",)}, "env.actions.methods: 'cutmx' .* Did you mean 'cutmix'"),
        ({"saliency": ("gradeint",)}, "env.actions.saliency: .* Did you mean 'gradient'"),
        ({"ratios": (7.0,)}, "env.actions.ratios holds 7.0, wanted numbers from 0 to 0.5"),
        ({"ratios": (-0.1,)}, "env.actions.ratios holds -0.1"),
        ({"ratios": (float("nan"),)}, "env.actions.ratios holds nan"),
        (
            {"space": "flatt"},
            "env.actions.space is 'flatt', .* 'factored', 'flat', 'box'",
        ),
    ],
)
def test_a_menu_that_cannot_be_played_is_refused(changes, told):
    with pytest.raises(ConfigError, match=told):
        ActionSettings(**changes)


# The box ----------------------------------------------------------------------------------------


@every_menu
def test_every_choice_survives_the_way_through_the_box(menu):
    codec = ActionCodec(replace(menu, space="box"))
    for action in codec.choices:
        numbers = codec.encode(action)
        assert codec.space.contains(numbers)
        assert codec.decode(numbers) == action


@pytest.mark.parametrize(
    ("numbers", "played"),
    [
        ([0.2, 0.1, -1, -1, 1], "none"),
        ([0.1, 0.2, -1, -1, 1], "mixup@0.5"),
        ([0.1, 0.2, -1, -1, 0], "mixup@0.25"),
        ([-1, -1, -0.9, -1, 0.5], "cutmix@0.38"),  # 0.375, in hundredths
        ([-1, -1, -1, 0.3, -1], "none"),  # no share of the partner
        ([-1, -1, -1, 0.3, 7], "rmix@0.5"),
    ],
)
def test_the_box_is_method_logits_and_a_ratio_that_need_not_be_on_the_menu(numbers, played):
    codec = ActionCodec(ActionSettings(space="box"))
    assert codec.space.shape == (5,)
    assert str(codec.decode(np.array(numbers, dtype=np.float32))) == played


def test_the_box_has_saliency_logits_where_there_is_a_choice():
    codec = ActionCodec(replace(worlds.GUIDED, space="box"))
    assert codec.space.shape == (4 + 1 + 3,)
    numbers = np.array([-1, -1, 1, -1, 0, -0.5, -0.4, -0.6], dtype=np.float32)
    assert str(codec.decode(numbers)) == "cutmix@0.25+gradient"


def test_any_ratio_in_hundredths_can_be_encoded_for_the_box():
    codec = ActionCodec(ActionSettings(space="box"))
    for hundredths in range(1, 51):
        action = MixAction("cutmix", hundredths / 100)
        assert codec.decode(codec.encode(action)) == action


@pytest.mark.parametrize("action", ["mixup@0.2", "cutmix@0.2+spectral", "cutmix@0.3"])
def test_the_box_refuses_what_its_numbers_cannot_say(action):
    codec = ActionCodec(ActionSettings(methods=("none", "cutmix"), ratios=(0.2,), space="box"))
    with pytest.raises(ConfigError, match="cannot be played") as error:
        codec.encode(MixAction.parse(action))
    assert "env.actions" in error.value.hint
