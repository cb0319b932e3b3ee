"""Settings of methods and rules, read from words."""

from __future__ import annotations

import json

import pytest

from automix.core.errors import ConfigError
from automix.core.registry import Entry
from automix.labels import LABEL_RULES
from automix.mixes import MIXES, MixInfo
from automix.mixing import options
from automix.mixing.batch import MixSettings
from automix.mixing.options import configured_rule, options_of, parameters_of
from tests.automix.mixes.drawing import recipe_of
from tests.cases import each


def toy(draw: object, *, decay: float = 3.0, cells: int = 2, soft: bool = False) -> object:
    return decay, cells, soft


@pytest.fixture
def toys(monkeypatch):
    monkeypatch.setitem(MIXES._entries, "toy", Entry("toy", toy, MixInfo()))
    options.configured.cache_clear()
    yield
    options.configured.cache_clear()


def test_methods_and_rules_have_names_of_their_own():
    assert not set(MIXES) & set(LABEL_RULES)


def test_a_name_of_both_is_a_mistake_of_who_registers_it(monkeypatch):
    monkeypatch.setitem(MIXES._entries, "area", Entry("area", toy, MixInfo()))
    with pytest.raises(ValueError, match="'area' is both a mix method and a label rule"):
        parameters_of("area")


def test_settings_are_the_keywords_of_a_method_or_rule(toys):
    assert parameters_of("toy") == {"decay": 3.0, "cells": 2, "soft": False}
    assert parameters_of("perturbed") == {"strength": 0.4, "noise": 0.1, "alpha": 1.0}
    assert parameters_of("area") == {}


def test_words_are_read_by_the_kind_of_the_default_and_the_last_one_counts(toys):
    words = ["toy.decay=2", "toy.soft=true", "perturbed.strength=0.3", "toy.decay=1.5"]
    assert options_of(words) == {
        "toy": {"decay": 1.5, "soft": True},
        "perturbed": {"strength": 0.3},
    }
    assert isinstance(options_of(["toy.decay=2"])["toy"]["decay"], float)


def test_a_function_gets_its_own_settings(toys):
    words = ("toy.decay=2", "perturbed.noise=0.2")
    assert options.configured("toy", words)(None) == (2.0, 2, False)
    assert configured_rule("perturbed", words).keywords == {"noise": 0.2}
    assert configured_rule("area", words) is LABEL_RULES["area"]


@each(
    "word, message, hint",
    [
        ("perturbd.noise=0.1", "Did you mean 'perturbed'", "cutmix"),
        ("perturbed.nose=0.1", "Did you mean 'noise'", "strength, noise, alpha"),
        ("perturbed.noise=much", "got str, wanted float", "its default is 0.1"),
        ("perturbed.noise", "is not a setting of a mix method or label rule", "perturbed.strength"),
        (["noise"], "is not a setting of a mix method or label rule", "perturbed.strength"),
        (3, "3 is not a setting of a mix method or label rule", "perturbed.strength"),
        ("noise=0.1", "is not a setting of a mix method or label rule", "perturbed.strength"),
        ("area.noise=0.1", "area has no setting 'noise'", "area has: none"),
        ("toy.cells=1.5", "got float, wanted int", "its default is 2"),
        ("toy.soft=1", "got int, wanted bool", "its default is false"),
        ("toy.decay=NaN", "got nan, wanted a finite number", "its default is 3.0"),
        ("toy.decay=1e999", "got inf, wanted a finite number", "its default is 3.0"),
        ("hide_and_seek.cells=4", "got int, wanted list", "its default is [4, 5, 7, 14]"),
        ("hide_and_seek.cells=[2,true]", "one of the values: got bool, wanted int", "[4, 5"),
        ('resizemix.scope=[0,"a"]', "one of the values: got str, wanted float", "[0.0, 1.0]"),
    ],
)
def test_words_that_mean_nothing_are_refused_where_settings_are_made(toys, word, message, hint):
    with pytest.raises(ConfigError) as error:
        MixSettings(options=[word])
    assert error.value.message.startswith(f"trainer.mix.options: {word!r}")
    assert message in error.value.message
    assert hint in error.value.hint


OUT_OF_RANGE = """\
adautomix.every=0              is 0, wanted 1 or more
alignmix.aligned=-0.1          is -0.1
alignmix.aligned=1.5           is 1.5
alignmix.eps=-1.0              is -1.0
alignmix.eps=0.0               is 0.0
amplitude_mix.window=0.6       is 0.6
asymmetric_cutmix.concentration=0.0  is 0.0, wanted a number above 0
attention.strength=-0.1        is -0.1
automix.lr=-0.1                is -0.1
automix.margin=0.6             is 0.6, wanted a number from 0 to 0.5
comixup.gamma=-1.0             is -1.0, wanted 0 or more
comixup.niter=-1               is -1, wanted 0 or more
comixup.omega=2.0              is 2.0, wanted a number from 0 to 1
comixup.part=1                 is 1, wanted
comixup.shown=1                is 1, wanted 2 or more
fmix.decay=-1                  is -1.0, wanted 0 or more
fmix.guidance=-0.5             is -0.5, wanted 0 or more
grafting.temperature=-1        is -1.0, wanted a number above 0
grafting.temperature=0         is 0.0, wanted a number above 0
gridmix_lattice.holes=[0,3]    wanted two whole numbers
gridmix_lattice.holes=[3]      wanted two whole numbers
gridmix_lattice.holes=[4,2]    wanted two whole numbers
hat.cutoff=1                   is 1.0
hat.passes=1                   is 1, wanted 2 or more
hat.stride=-0.1                is -0.1
hide_and_seek.cells=[4,0]      are [4, 0], wanted
hide_and_seek.cells=[]         are [], wanted
manifold_mixup.stages=[0,-1]   is
manifold_mixup.stages=[]       is
mum.group=1                    is
mum.tiles=0                    is
mum.tiles=1                    is
perturbed.alpha=0              is 0.0
perturbed.noise=-0.1           noise -0.1
perturbed.noise=0.7            strength is 0.4 and perturbed.noise 0.7
perturbed.strength=1.2         is 1.2
perturbed.strength=2           is 2.0 and perturbed.noise 0.1, wanted
perturbed_attention.attention=1.5  is 1.5
perturbed_attention.strength=1.2   is 1.2
perturbed_token_aligned.noise=-1   perturbed_token_aligned.noise -1.0
puzzlemix.beta=-1              is -1.0, wanted 0 or more
puzzlemix.t_size=0             is 0, wanted 1 or more
random_erasing.aspect=0.0      is 0.0
random_erasing.aspect=1.5      is 1.5
random_erasing.noise=-1.0      is -1.0
resizemix.scope=[0.1]          is [0.1], wanted
resizemix.scope=[0.8,0.1]      is [0.8, 0.1], wanted
saliency_mass.norm=0.5         is 0.5, wanted
samix.contrast=-1.0            is -1.0, wanted a number from 0
samix.memory=0.0               is 0.0
smmix.consistency=-0.5         is
smmix.tokens=-1                is
soft_crop.spread=-1.0          is -1.0, wanted 0 or more
style_consistency.style=brush  is 'brush', wanted one of statistics, amplitude
style_consistency.weight=-1    is -1.0
token_cutmix.patch=-2          is -2, wanted 0 or more
tokenmix.mode=blocks           is
tokenmix.patch=-1              is
visibility.power=0             is 0.0
"""
"""A setting, and what the error says of it; of all that are numbers or lists with a range."""


@each("line", OUT_OF_RANGE.splitlines())
def test_values_out_of_range_are_refused_where_settings_are_made(line):
    word, _, told = line.partition(" ")
    with pytest.raises(ConfigError) as error:
        MixSettings(options=[word])
    name, message = word.partition("=")[0], error.value.message
    assert message.startswith(f"trainer.mix.options: {name.partition('.')[0]}.")
    assert name in message
    assert told.strip() in message
    assert error.value.hint or not name.startswith("hat.")


@each(
    "method, bad",
    [
        ("fmix", {"decay": float("nan")}),
        ("grafting", {"temperature": float("inf")}),
        ("gridmix_lattice", {"holes": (1.5, 2)}),
        ("puzzlemix", {"t_eps": float("nan")}),
        ("tokenmix", {"mode": "blocks"}),
    ],
)
def test_a_method_that_is_called_by_hand_refuses_them_too(method, bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        recipe_of(method, [0.5], (8, 8), **bad)


@each("name", sorted({*MIXES, *LABEL_RULES}))
def test_the_defaults_of_every_method_and_rule_can_be_named(name):
    words = [f"{name}.{key}={json.dumps(value)}" for key, value in parameters_of(name).items()]
    assert options_of(words).get(name, {}) == parameters_of(name)
    MixSettings(options=words)
