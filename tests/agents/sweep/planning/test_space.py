"""What overrides leave open: choices, intervals, and the points that are drawn from them."""

from __future__ import annotations

import pytest

from automix.agents.config.compose import choices_of, groups
from automix.agents.sweep.planning.space import Choice, Interval, space_of

LR = "agent.learning_rate=1e-4,3e-4,1e-3"


def test_an_override_offers_what_hydras_grammar_says():
    ppo = [name for name in groups()["agent"] if name.endswith("ppo")]
    for override, values in (
        ("agent=ppo,a2c", ["ppo", "a2c"]),
        ("seed=range(0,3)", ["0", "1", "2"]),
        ("agent.gamma=choice(0.9,1.0)", ["0.9", "1.0"]),
        ("agent.net_arch=[8],[8,8]", ["[8]", "[8,8]"]),
        ("agent=glob(*ppo)", ppo),
        ("name='a,b'", ["'a,b'"]),
        ("agent.net_arch=[8,8]", ["[8,8]"]),
    ):
        (choices,) = choices_of([override])
        key = override.partition("=")[0]
        assert choices.key == key
        assert choices.words == [f"{key}={value}" for value in values]
        assert choices.several == (len(values) > 1)


def test_keys_with_several_values_are_the_space():
    intervals = ["agent.n_epochs=interval(2,9)", "agent.gamma=interval(0.9,1)"]
    space = space_of(["task=digits", LR, *intervals, "agent.gamma=0.9"], intervals=True)
    assert space.fixed == ["task=digits", "agent.gamma=0.9"]
    assert space.dimensions == [
        Choice("agent.learning_rate", ["0.0001", "0.0003", "0.001"]),
        Interval("agent.n_epochs", 2, 9, whole=True),
        Interval("agent.gamma", 0.9, 1),
    ]
    # One value of a key that is searched gives way to what was drawn.
    assert space.overrides_with({"agent.gamma": "1"}) == ["task=digits", "agent.gamma=1"]


def test_choices_are_taken_all_or_drawn_without_repetition():
    space = space_of([LR, "agent.gamma=0.9,1.0"], intervals=True)
    everything = space.draw(0, seed=0)
    assert len(everything) == 6
    assert everything == space.every()
    some = space.draw(4, seed=0)
    assert len({tuple(point.items()) for point in some}) == 4
    assert all(point in everything for point in some)
    assert space.draw(4, seed=0) == some
    assert any(space.draw(4, seed=seed) != some for seed in range(1, 5))


def test_an_interval_of_a_decade_is_drawn_by_factors_and_every_part_of_it_once():
    space = space_of(["agent.learning_rate=interval(1e-4,1e0)"], intervals=True)
    drawn = sorted(float(point["agent.learning_rate"]) for point in space.draw(8, seed=3))
    for number, value in enumerate(drawn):
        assert 1e-4 * 10 ** (number / 2) <= value * 1.001
        assert value <= 1e-4 * 10 ** ((number + 1) / 2) * 1.001


def test_less_than_a_decade_or_from_0_on_steps_are_equal():
    for low, high, log in ((0, 1, False), (0.1, 0.9, False), (0.1, 1, True), (-1, 1, False)):
        interval = Interval("x", low, high)
        assert interval.log == log
        middle = (low * high) ** 0.5 if log else (low + high) / 2
        assert float(interval.at(0.5)) == pytest.approx(middle, abs=1e-3)
        ends = interval.text(low - 1), interval.text(high + 1)
        assert ends == (str(float(low)), str(float(high)))


def test_a_drawn_number_is_read_back_as_the_same_number():
    interval = Interval("agent.learning_rate", 1e-5, 1e-1)
    for place in (0.0, 0.123, 0.5, 0.999):
        text = interval.at(place)
        assert interval.text(float(text)) == text
        assert float(text) == float(f"{float(text):.4g}")
