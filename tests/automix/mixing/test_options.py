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


@each(
    "word, told",
    [
        ("fmix.decay=-1", "fmix.decay is -1.0, wanted"),
        ("puzzlemix.t_size=0", "puzzlemix.t_size is 0, wanted"),
        ("hide_and_seek.cells=[]", "hide_and_seek.cells are [], wanted"),
        ("comixup.part=1", "comixup.part is 1, wanted"),
        ("perturbed.strength=2", "perturbed.strength is 2.0 and perturbed.noise 0.1, wanted"),
        ("saliency_mass.norm=0.5", "saliency_mass.norm is 0.5, wanted"),
    ],
)
def test_values_out_of_range_are_refused_where_settings_are_made(word, told):
    with pytest.raises(ConfigError) as error:
        MixSettings(options=[word])
    assert error.value.message.startswith(f"trainer.mix.options: {told}")


@each("name", sorted({*MIXES, *LABEL_RULES}))
def test_the_defaults_of_every_method_and_rule_can_be_named(name):
    words = [f"{name}.{key}={json.dumps(value)}" for key, value in parameters_of(name).items()]
    assert options_of(words).get(name, {}) == parameters_of(name)
    MixSettings(options=words)
