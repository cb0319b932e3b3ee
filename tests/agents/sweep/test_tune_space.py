"""What words make a search, and which are refused."""

from __future__ import annotations

import pytest

from automix.agents.sweep.search_plan import search_name, search_plan_of
from automix.agents.sweep.space import Choice, Interval, space_of
from automix.core.errors import ConfigError

LR = "agent.learning_rate=1e-4,3e-4,1e-3"


def test_words_with_several_values_are_the_space():
    space = space_of(
        ["task=digits", LR, "agent.n_epochs=interval(2,9)", "agent.gamma=interval(0.9,1)"]
    )
    assert space.fixed == ["task=digits"]
    assert space.dimensions == [
        Choice("agent.learning_rate", ["0.0001", "0.0003", "0.001"]),
        Interval("agent.n_epochs", 2, 9, whole=True),
        Interval("agent.gamma", 0.9, 1),
    ]


def test_choices_are_taken_all_or_drawn_without_repetition():
    space = space_of([LR, "agent.gamma=0.9,1.0"])
    everything = space.draw(0, seed=0)
    assert len(everything) == 6
    some = space.draw(4, seed=0)
    assert len({tuple(point.items()) for point in some}) == 4
    assert all(point in everything for point in some)
    assert space.draw(4, seed=0) == some
    assert any(space.draw(4, seed=seed) != some for seed in range(1, 5))


def test_an_interval_of_a_decade_is_drawn_by_factors_and_every_part_of_it_once():
    space = space_of(["agent.learning_rate=interval(1e-4,1e0)"])
    drawn = sorted(float(point["agent.learning_rate"]) for point in space.draw(8, seed=3))
    for number, value in enumerate(drawn):
        assert 1e-4 * 10 ** (number / 2) <= value * 1.001
        assert value <= 1e-4 * 10 ** ((number + 1) / 2) * 1.001


@pytest.mark.parametrize(
    ("low", "high", "log"), [(0, 1, False), (0.1, 0.9, False), (0.1, 1, True), (-1, 1, False)]
)
def test_less_than_a_decade_or_from_0_on_steps_are_equal(low, high, log):
    interval = Interval("x", low, high)
    assert interval.log == log
    middle = (low * high) ** 0.5 if log else (low + high) / 2
    assert float(interval.at(0.5)) == pytest.approx(middle, abs=1e-3)
    assert (interval.text(low - 1), interval.text(high + 1)) == (str(float(low)), str(float(high)))


def test_a_drawn_number_is_read_back_as_the_same_number():
    interval = Interval("agent.learning_rate", 1e-5, 1e-1)
    for place in (0.0, 0.123, 0.5, 0.999):
        text = interval.at(place)
        assert interval.text(float(text)) == text
        assert float(text) == float(f"{float(text):.4g}")


def test_what_sweep_search_says_is_found_among_the_words():
    assert search_name(["agent=ppo", "sweep.search=pb2"]) == "pb2"
    assert search_name(["agent=ppo"]) == "grid"


def test_a_plan_has_a_trial_for_each_point():
    plan = search_plan_of([LR, "agent.gamma=0.9", "sweep.search=asha", "seed=4"])
    assert [dict(trial.values) for trial in plan.trials] == [
        {"agent.learning_rate": value} for value in ("0.0001", "0.0003", "0.001")
    ]
    for trial, rate in zip(plan.trials, (1e-4, 3e-4, 1e-3), strict=True):
        agent = trial.settings.agent
        assert (agent.learning_rate, agent.gamma, trial.settings.seed) == (rate, 0.9, 4)
        assert (trial.settings.workers, trial.settings.device) == (1, "cpu")
    assert (plan.updates, plan.interval) == (60, 6)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["sweep.search=asha"], "nothing to search"),
        (["sweep.search=asha", LR, "seed=0,1"], "one seed"),
        (["sweep.search=asha", LR, "workers=2"], "is not for a sweep"),
        (["sweep.search=asha", LR, "sweep.trials=4"], "the words make 3 different trials"),
        (["sweep.search=asha", "agent.gamma=interval(1,0.9)"], "the lesser number first"),
        (["sweep.search=asha", "agent.n_epochs=interval(1.5,3)"], "takes whole numbers"),
        (["sweep.search=asha", "agent.n_epochs=interval(1,2)", "sweep.trials=8"], "2 different"),
        (["sweep.search=asha", LR, "sweep.interval=60"], "judged every 60: never"),
        (["sweep.search=asha", LR, "sweep.grace=61"], "sweep.grace is 61"),
        (["sweep.search=asha", LR, "sweep.reduction_factor=1"], "above 1"),
        (["sweep.search=asha", "agent.total_timesteps=38400,76800"], "equally many updates"),
        (["sweep.search=asha", "agent.gamma=0.9,2"], "agent.gamma=2: "),
        (["sweep.search=pbt", LR, "sweep.quantile=0.6"], "at most 0.5"),
        (["sweep.search=pbt", "agent=ppo,a2c"], "agent cannot vary while an agent learns"),
        (["sweep.search=pbt", "agent.net_arch=[8],[16]"], "agent.net_arch cannot vary"),
        (["sweep.search=pbt", "trainer.probe_size=20,40"], "trainer.probe_size cannot vary"),
        (["sweep.search=pbt", LR, "agent.gamma=0.9", "sweep.trials=1"], "of one trial is none"),
        (["sweep.search=pb2", LR], "pb2 searches intervals"),
        (["sweep.search=asha", LR, "sweep.replay=x"], "do not go together"),
        (["sweep.search=replay", LR], "do not go together"),
        (["sweep.search=bohb", LR], "wanted grid or asha"),
    ],
)
def test_what_cannot_be_searched_is_told_in_a_line(words, told):
    with pytest.raises(ConfigError, match=r".") as caught:
        search_plan_of(words)
    assert told in caught.value.message
    assert "\n" not in caught.value.message


def test_who_may_not_vary_a_shape_is_told_what_may():
    with pytest.raises(ConfigError) as caught:
        search_plan_of(["sweep.search=pbt", "agent.group_size=4,8"])
    free = caught.value.hint.partition(": ")[2].split(", ")
    assert {"agent.learning_rate", "agent.ent_coef", "agent.batch_size"} <= set(free)
    assert not {"agent.net_arch", "agent.groups", "agent.total_timesteps"} & set(free)
