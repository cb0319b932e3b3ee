"""Every registered mix keeps the contract, guided or not, and some of them under every label rule.

Nothing here names a method but the representatives: a new file in ``automix/mixes`` is tested by
being there.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automix.masks.pairing import PAIRINGS
from automix.masks.shapes import Boxes, Cells, Constant, Dense
from tests.cases import named
from tests.contract import (
    FORMS,
    LAYOUTS,
    REPRESENTATIVES,
    RULES,
    Case,
    checks_of,
    laws_of,
    masks_of,
    targets_of,
)
from tests.strategies import AWKWARD, DTYPES, awkward, cases

every_form = pytest.mark.parametrize("form", FORMS, ids=str)


def rules_of(form):
    """Every rule for the representatives: what lies behind the mask sees nothing else of it."""
    return RULES if form in REPRESENTATIVES else ["area"]


@every_form
def test_every_mix_keeps_the_contract_on_awkward_batches(form):
    for rule in rules_of(form):
        for case in awkward(form, rule):
            for check in checks_of(form, rule):
                with named(check.__name__, case):
                    check(case)


@every_form
@settings(settings.get_profile("few"))
@given(data=st.data())
def test_every_mix_keeps_the_contract(form, data):
    for rule in rules_of(form):
        for check in checks_of(form, rule):
            with named(check.__name__):
                check(data.draw(cases(form, rule)))


@pytest.mark.slow
@every_form
@settings(settings.get_profile("many"))
@given(data=st.data())
def test_every_mix_keeps_the_contract_on_many_batches(form, data):
    for rule in rules_of(form):
        case = data.draw(cases(form, rule))
        for check in checks_of(form, rule):
            with named(check.__name__):
                check(case)


@every_form
def test_over_many_draws_the_laws_hold(form):
    for law in laws_of(form):
        with named(law.__name__):
            law(form)


def test_the_representatives_have_every_kind_of_mask():
    shares = targets_of(Case(form=REPRESENTATIVES[0]))[:, 0] / 2
    kinds = [type(masks_of(Case(form=form), shares, 0.5)) for form in REPRESENTATIVES]
    assert kinds == [Constant, Boxes, Cells, Dense]
    assert set(REPRESENTATIVES) <= set(FORMS)


def test_the_awkward_batches_have_every_kind_of_trouble():
    met = [Case(form=REPRESENTATIVES[0], **case) for case in AWKWARD]
    assert {case.pairing for case in met} == set(PAIRINGS)
    assert {case.layout for case in met} == set(LAYOUTS)
    assert {case.dtype for case in met} == set(DTYPES)
    assert {case.channels for case in met} == {1, 3, 5}
    assert {case.share_per for case in met} == {"image", "batch"}
    assert {case.soft for case in met} == {True, False}
    assert any(case.b == 1 for case in met)
    assert any(case.b % 2 and case.b > 1 for case in met)
    assert {(31, 31), (4, 4), (24, 40)} < {case.size for case in met}
    assert any(case.size[0] == 1 for case in met), "a single row"
    assert any(case.size[1] == 1 for case in met), "a single column"
