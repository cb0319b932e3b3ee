"""Every registered mix keeps the contract, under every label rule, guided or not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests import contract
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


OTHER_DTYPES = [torch.bfloat16, torch.float16, torch.uint8]

DTYPE_CHECKS = [
    contract.the_label_tells_what_the_pixels_show,
    contract.pixels_and_targets_follow_mask_and_lam,
    contract.a_place_for_the_result_changes_nothing_else,
    contract.ratio_0_is_the_identity,
    contract.an_image_alone_stays_as_it_is,
    contract.the_callers_tensors_are_never_written_to,
]


@every_form
@pytest.mark.parametrize("dtype", OTHER_DTYPES, ids=str)
@each(DTYPE_CHECKS)
@given(data=st.data())
def test_every_mix_keeps_the_contract_in_other_precisions(form, dtype, check, data):
    check(replace(data.draw(cases(form, "area")), dtype=dtype))


@for_its_forms(LAWS)
def test_over_many_draws_the_law_holds(law, form):
    law(form)


@for_its_forms(TWINS)
def test_the_mask_is_the_one_of_the_slow_twin(law, form):
    law(form)
