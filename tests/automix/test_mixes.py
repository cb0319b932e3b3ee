"""Every registered mix keeps the contract, under every label rule, guided or not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contract import AREA_CHECKS, CHECKS, FORMS, LAWS, MIXING, MIXING_CHECKS, RULES, TWINS
from tests.strategies import cases

every_form = pytest.mark.parametrize("form", FORMS, ids=str)
every_rule = pytest.mark.parametrize("rule", RULES)


def each(checks):
    return pytest.mark.parametrize("check", checks, ids=lambda check: check.__name__)


def for_its_forms(laws):
    pairs = [
        pytest.param(law, form, id=f"{law.__name__}-{form}")
        for law, forms in laws
        for form in forms
    ]
    return pytest.mark.parametrize(("law", "form"), pairs)


@every_form
@every_rule
@each(CHECKS)
@given(data=st.data())
def test_every_mix_keeps_the_contract(form, rule, check, data):
    check(data.draw(cases(form, rule)))


@pytest.mark.parametrize("form", MIXING, ids=str)
@every_rule
@each(MIXING_CHECKS)
@given(data=st.data())
def test_every_mix_that_mixes_keeps_the_contract(form, rule, check, data):
    check(data.draw(cases(form, rule)))


@every_form
@each(AREA_CHECKS)
@given(data=st.data())
def test_the_label_tells_what_the_pixels_show(form, check, data):
    check(data.draw(cases(form, "area")))


@for_its_forms(LAWS)
def test_over_many_draws_the_law_holds(law, form):
    law(form)


@for_its_forms(TWINS)
def test_the_mask_is_the_one_of_the_slow_twin(law, form):
    law(form)
