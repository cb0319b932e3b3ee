"""A policy's numbers and the mixes they stand for."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from gymnasium import spaces

from automix.core.errors import ConfigError
from automix.envs import ActionCodec, ActionSettings
from automix.mixes import MIXES, MixInfo
from automix.mixing.actions import PLAIN, PRESETS, MixAction, form_of
from tests.envs import worlds

ACTION_SETS = {
    "default": ActionSettings(),
    "guided": worlds.GUIDED,
    "only guided": ActionSettings(methods=("rmix", "cutmix"), saliency=("spectral",)),
    "no none": ActionSettings(methods=("cutmix",), ratios=(0.5,)),
    "none by its ratio": ActionSettings(methods=("mixup",), ratios=(0.0, 0.3)),
    "none last": ActionSettings(methods=("rmix", "none"), ratios=(0.5, 0.1)),
}


def samples(codec: ActionCodec) -> list[np.ndarray]:
    """Every sample of the space."""
    if isinstance(codec.space, spaces.Discrete):
        return [np.int64(i) for i in range(codec.space.n)]
    return [np.array(index) for index in product(*(range(n) for n in codec.space.nvec))]


@pytest.mark.parametrize("actions", ACTION_SETS.values(), ids=ACTION_SETS)
def test_every_space_offers_the_same_choices_each_once_and_there_and_back(actions):
    flat, factored, box = (
        ActionCodec(replace(actions, space=s)) for s in ("flat", "factored", "box")
    )
    assert flat.choices == factored.choices == box.choices
    assert len(set(flat.choices)) == len(flat.choices) == flat.space.n
    for codec in (flat, factored, box):
        for action in codec.choices:
            sample = codec.encode(action)
            assert codec.space.contains(sample)
            assert codec.decode(sample) == action
    for codec in (flat, factored):
        assert {codec.decode(sample) for sample in samples(codec)} == set(codec.choices)


def test_choices_are_in_the_order_of_the_settings_with_none_first():
    choices = ActionCodec(ACTION_SETS["none last"]).choices
    assert [str(action) for action in choices] == ["none", "rmix@0.5", "rmix@0.1"]


def test_the_factored_space_is_method_ratio_saliency():
    codec = ActionCodec(worlds.GUIDED)
    played = {
        (0, 0, 0): "none",
        (0, 2, 0): "none",
        (0, 2, 2): "none",
        (1, 0, 0): "mixup@0.1",
        (2, 1, 1): "cutmix@0.25+gradient",
        (3, 2, 2): "rmix@0.5+spectral",
    }
    assert {sample: str(codec.decode(np.array(sample))) for sample in played} == played


def test_ratio_0_is_none_whatever_the_method():
    codec = ActionCodec(ActionSettings(methods=("cutmix", "mixup"), ratios=(0.5, 0.0)))
    assert codec.decode(np.array([1, 1, 0])) == PLAIN
    assert PLAIN in codec.choices


def test_saliency_is_dropped_where_the_method_has_no_guided_form(monkeypatch):
    """And what is then played is a choice, so that it can be exported and replayed."""
    unguided = replace(MIXES.entry("mixup"), info=MixInfo())
    monkeypatch.setitem(MIXES._entries, "mixup", unguided)
    settings = ActionSettings(methods=("mixup", "cutmix"), ratios=(0.5,))
    for saliency, space in product([("off", "spectral"), ("spectral",)], worlds.SPACES):
        codec = ActionCodec(replace(settings, saliency=saliency, space=space))
        played = {str(codec.decode(sample)) for sample in samples(codec)}
        unguided_cutmix = {"cutmix@0.5"} if "off" in saliency else set()
        assert played == {"mixup@0.5", "cutmix@0.5+spectral"} | unguided_cutmix
        assert played == {str(action) for action in codec.choices}


def test_an_action_that_is_no_choice_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"mixup@0.3 is not among the actions") as error:
        ActionCodec(ActionSettings()).encode(MixAction("mixup", 0.3))
    assert "env.actions" in error.value.hint
    box = ActionCodec(ActionSettings(methods=("none", "cutmix"), ratios=(0.2,), space="box"))
    for action in ("mixup@0.2", "cutmix@0.2+spectral", "cutmix@0.3"):
        with pytest.raises(ConfigError, match="cannot be played") as error:
            box.encode(MixAction.parse(action))
        assert "env.actions" in error.value.hint


def test_what_is_no_sample_of_the_space_is_refused_with_what_would_be():
    factored, flat, box = (
        ActionCodec(replace(worlds.GUIDED, space=space)) for space in ("factored", "flat", "box")
    )
    logits = np.zeros(8, dtype=np.float32)
    every = (None, "cutmix", True, [[0], [0, 0]], {}, torch.zeros(3, requires_grad=True))
    for codec, wanted, wrong in (
        (
            factored,
            r"whole numbers from 0 to below \[4, 3, 3\] in shape \(3,\)",
            [
                0,
                [0, 0],
                [[0, 0, 0]],
                [0.0, 1.0, 0.0],
                [np.nan] * 3,
                [-1, 0, 0],
                [0, 0, 3],
            ],
        ),
        (flat, r"whole numbers from 0 to below 28 in shape \(\)", [-1, 28, 2.0, np.nan, [3]]),
        (
            box,
            r"finite numbers in shape \(8,\)",
            [
                0.0,
                logits[:7],
                logits[None],
                logits * np.nan,
                logits + np.inf,
                logits > 0,
            ],
        ),
    ):
        for action in (*every, *wrong):
            with pytest.raises(ConfigError, match=f"^the action is .*, wanted {wanted}$") as error:
                codec.decode(action)
            assert "sample()" in error.value.hint
    with pytest.raises(ConfigError, match=r"^the action is -2 at \[1\], wanted"):
        factored.decode(np.array([0, -2, 0]))
    for fits in ([2, 1, 0], (2, 1, 0), torch.tensor([2, 1, 0]), np.array([2, 1, 0], np.uint8)):
        assert str(factored.decode(fits)) == "cutmix@0.25"


def test_settings_that_cannot_be_played_are_refused():
    refused = [
        ({"methods": ()}, "env.actions.methods is empty"),
        ({"ratios": ()}, "env.actions.ratios is empty"),
        ({"saliency": ()}, "env.actions.saliency is empty"),
        ({"methods": ("mixup", "mixup")}, "env.actions.methods names something twice"),
        ({"ratios": (0.1, 0.1)}, "env.actions.ratios names something twice"),
        ({"methods": ("all", "all")}, "env.actions.methods names something twice"),
        ({"saliency": ("gradeint",)}, "env.actions.saliency: .* Did you mean 'gradient'"),
        ({"ratios": (7.0,)}, "env.actions.ratios holds 7.0, wanted numbers from 0 to 0.5"),
        ({"ratios": (-0.1,)}, "env.actions.ratios holds -0.1"),
        ({"ratios": (float("nan"),)}, "env.actions.ratios holds nan"),
        ({"space": "flatt"}, "env.actions.space is 'flatt', .* 'factored', 'flat', 'box'"),
        (
            {"methods": ("none", "cutmix@0.5")},
            "env.actions.methods: 'cutmix@0.5' is not a mix method, wanted method",
        ),
        ({"methods": ("none", "cutmx")}, "env.actions.methods: 'cutmx' .* Did you mean 'cutmix'"),
        (
            {"methods": ("none", "cutmix+spectrum")},
            "env.actions.methods: 'spectrum' is not a saliency provider",
        ),
        ({"methods": ("cutmix:are",)}, "env.actions.methods: 'are' is not a label rule"),
    ]
    points = [entry.name for entry in MIXES.entries() if entry.info.points]
    assert points
    for changes, said in [*refused, *(({"methods": (p,)}, "mixes point clouds") for p in points)]:
        with pytest.raises(ConfigError, match=said):
            ActionSettings(**changes)
    with pytest.raises(ConfigError, match=r"'lumix\+gradient' adds to 'lumix'") as error:
        ActionSettings(methods=("none", "lumix+gradient"))
    assert error.value.hint == "name the parts: lumix stands for cutmix:perturbed"


# Entries of more than a method --------------------------------------------------------------------


def test_a_published_name_is_an_entry_of_the_vocabulary():
    for name in PRESETS:
        form = form_of(name)
        codec = ActionCodec(ActionSettings(methods=("none", "cutmix", name), ratios=(0.25, 0.5)))
        played = codec.decode(np.array([2, 1, 0]))
        assert (played.method, played.label_rule) == (form.method, form.label_rule)
        assert played.saliency == (form.saliency or "off")
        assert played == MixAction.parse(f"{name}@0.5") == MixAction.parse(str(played))
        assert (codec.encode(played) == [2, 1, 0]).all() or played == MixAction("cutmix", 0.5)
        boxed = ActionCodec(replace(codec.settings, space="box"))
        assert boxed.decode(boxed.encode(played)) == played


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


# The box ----------------------------------------------------------------------------------------


def test_the_box_is_method_logits_and_a_ratio_that_need_not_be_a_choice():
    codec = ActionCodec(ActionSettings(space="box"))
    assert codec.space.shape == (5,)
    for numbers, played in (
        ([0.2, 0.1, -1, -1, 1], "none"),
        ([0.1, 0.2, -1, -1, 1], "mixup@0.5"),
        ([0.1, 0.2, -1, -1, 0], "mixup@0.25"),
        ([-1, -1, -0.9, -1, 0.5], "cutmix@0.38"),  # 0.375, in hundredths
        ([-1, -1, -1, 0.3, -1], "none"),  # no share of the partner
        ([-1, -1, -1, 0.3, 7], "rmix@0.5"),
    ):
        assert str(codec.decode(np.array(numbers, dtype=np.float32))) == played
    for hundredths in range(1, 51):
        action = MixAction("cutmix", hundredths / 100)
        assert codec.decode(codec.encode(action)) == action


def test_the_box_has_saliency_logits_where_there_is_a_choice():
    codec = ActionCodec(replace(worlds.GUIDED, space="box"))
    assert codec.space.shape == (4 + 1 + 3,)
    numbers = np.array([-1, -1, 1, -1, 0, -0.5, -0.4, -0.6], dtype=np.float32)
    assert str(codec.decode(numbers)) == "cutmix@0.25+gradient"
