"""The tests' own tool for many cases in one item."""

from __future__ import annotations

import logging
import os
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import each


def test_every_case_runs_and_a_failure_names_its_own():
    seen = []

    @each("number, text", [(1, "a"), (2, "b"), (3, "c")])
    @each("flag", [True, False])
    def test(number, text, flag):
        seen.append((number, text, flag))
        assert (number, flag) != (2, False)

    with pytest.raises(AssertionError) as error:
        test()
    assert seen == [(1, "a", True), (1, "a", False), (2, "b", True), (2, "b", False)]
    told = "".join(traceback.format_exception(error.value))
    assert "case: {'number': 2, 'text': 'b'}" in told
    assert "case: {'flag': False}" in told


@each("value", [1, 2])
def test_each_case_has_a_folder_a_log_and_patches_of_its_own(tmp_path, monkeypatch, caplog, value):
    assert not list(tmp_path.iterdir())
    assert not caplog.records
    logging.getLogger(__name__).warning("case %s", value)
    assert "OF_A_CASE" not in os.environ
    (tmp_path / "file").touch()
    monkeypatch.setenv("OF_A_CASE", str(value))


@each("least", [0, 10])
@given(drawn=st.integers(0, 5))
def test_cases_may_be_drawn_in_each(least, drawn):
    assert drawn + least >= least


def test_no_case_is_a_mistake():
    with pytest.raises(AssertionError, match="no case of value"):
        each("value", [])
