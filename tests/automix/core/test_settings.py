"""What a field says of itself: what it affects, and which numbers it takes."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace

import pytest

from automix.core.errors import ConfigError
from automix.core.settings import (
    Range,
    affects,
    check_ranges,
    differences,
    names_that_affect,
    setting,
    values_that_decide,
    within,
)


@dataclass(frozen=True, kw_only=True)
class Inner:
    width: int = setting(8, affects="shape", least=1, hint="make it wider")
    pace: float = setting(0.5, affects="speed", least=0, most=1)


@dataclass(frozen=True, kw_only=True)
class Fast:
    share: float = setting(0.1, affects="speed")


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    fast: Fast = field(default_factory=Fast)
    rate: float = setting(1.0, above=0)
    seed: int = 0


def test_a_field_affects_the_result_unless_it_says_otherwise():
    wanted = {"inner.width": "shape", "inner.pace": "speed", "rate": "result", "seed": "result"}
    for settings in (Outer, Outer()):
        assert {name: affects(settings, name) for name in wanted} == wanted
        assert affects(settings, "inner.lost") == affects(settings, "lost") == "result"
        assert names_that_affect(settings, "result") == ["rate", "seed"]
        assert names_that_affect(settings, "speed") == ["inner.pace", "fast.share"]
    assert values_that_decide(Outer()) == {"inner": {"width": 8}, "rate": 1.0, "seed": 0}


def test_differences_are_those_that_decide():
    before = asdict(Outer())
    after = asdict(Outer(inner=Inner(width=9, pace=0.1), rate=2.0))
    told = {"inner.width": "inner.width was 8, is 9", "rate": "rate was 1.0, is 2.0"}
    assert differences(Outer, before, after) == told
    assert differences(Outer, before, after, lambda name: name == "rate") == {
        "inner.width": told["inner.width"]
    }
    assert differences(Outer, {"seed": 0, "old": 1}, {"seed": 0}) == {"old": "old was 1, is None"}


@dataclass(frozen=True)
class Limits:
    share: float = setting(0.5, above=0, below=1)
    decay: float = setting(0.0, least=0, below=1)
    count: float = setting(3, least=2, whole=True)


def test_a_number_outside_is_refused_with_what_was_wanted():
    for settings, told, hint in (
        (Inner(width=0), "x.width is 0, wanted 1 or more", "make it wider"),
        (Inner(pace=1.5), "x.pace is 1.5, wanted a number from 0 to 1", ""),
        (Inner(pace=math.nan), "x.pace is nan", ""),
        (Outer(rate=0.0), "x.rate is 0.0, wanted a number above 0", ""),
        (Outer(rate=math.inf), "x.rate is inf", ""),
        (Limits(share=0.0), "x.share is 0.0, wanted a number above 0 and below 1", ""),
        (Limits(share=1.0), "x.share is 1.0", ""),
        (Limits(decay=-0.1), "x.decay is -0.1, wanted 0 to below 1", ""),
        (Limits(decay=1.0), "x.decay is 1.0", ""),
        (Limits(count=1), "x.count is 1, wanted a whole number, 2 or more", ""),
        (Limits(count=2.5), "x.count is 2.5", ""),
    ):
        with pytest.raises(ConfigError, match=told) as error:
            check_ranges(settings, "x")
        assert error.value.hint == hint
    limits = Limits(), Limits(0.9, 0.9, 2)
    for fine in (
        *limits,
        Inner(width=1, pace=0),
        Inner(pace=1),
        replace(Outer(), seed=-1, rate=1e-9),
    ):
        check_ranges(fine)
    with pytest.raises(ConfigError, match=r"^rate is -1"):
        check_ranges(Outer(rate=-1))


def test_numbers_given_by_keyword_are_checked_by_their_ranges():
    check = within(share=Range(0, 1, hint="as a part"), power=Range(above=0), half=Range(0, 0.5))
    check(share=1.0, power=2, unknown=-3)
    for wrong, message in (
        ({"share": 1.5}, "share is 1.5, wanted a number from 0 to 1"),
        ({"power": 0}, "power is 0, wanted a number above 0"),
        ({"power": math.inf}, "power is inf, wanted a number above 0, finite"),
        ({"half": math.nan, "share": 0.5}, "half is nan, wanted a number from 0 to 0.5"),
    ):
        with pytest.raises(ConfigError) as error:
            check(**wrong)
        assert error.value.message == message
    with pytest.raises(ConfigError) as error:
        Range(above=0, most=1, hint="as a part").check("aspect", 2.0)
    assert error.value.message == "aspect is 2.0, wanted a number above 0, at most 1"
    assert error.value.hint == "as a part"
