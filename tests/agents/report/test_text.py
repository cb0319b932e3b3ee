"""The verdict says what the intervals allow to say."""

from __future__ import annotations

from automix.agents.report import text
from automix.agents.report.run_files import read_run
from tests.agents.report.made_run import edit
from tests.agents.report.pages import verdict_of


def test_the_verdict_follows_the_interval(run):
    for mean, low, high, says in [
        (0.021, 0.013, 0.029, "beats random choice by 2.1 points [1.3, 2.9]"),
        (-0.021, -0.029, -0.013, "loses to random choice by 2.1 points [1.3, 2.9]"),
        (0.001, -0.004, 0.006, "cannot be distinguished from random choice: +0.1 points [−0.4, +0.6]"),  # noqa: E501, RUF001
        (0.004, 0.0002, 0.009, "beats random choice by 0.40 points [0.02, 0.90]"),
        (0.0, 0.0, 0.0, "cannot be distinguished from random choice: 0.0 points [0.0, 0.0]"),
    ]:  # fmt: skip

        def change(result, figures={"mean": mean, "ci95": [low, high]}):  # noqa: B006
            result["agent_minus"] = {"random": result["agent_minus"]["random"] | figures}

        edit(run, change)
        assert verdict_of(run) == f"The agent {says}."


def test_the_verdict_is_one_sentence_about_the_three_that_matter(run):
    def change(result):
        result["best_fixed"] = "fixed:cutmix@0.5"
        for name, mean in (("none", 0.073), ("random", 0.021), ("fixed:cutmix@0.5", 0.001)):
            result["agent_minus"][name] |= {"mean": mean, "ci95": [mean - 0.01, mean + 0.01]}

    edit(run, change)
    assert verdict_of(run) == (
        "The agent beats no mixing by 7.3 points [6.3, 8.3] and random choice by 2.1 points "
        "[1.1, 3.1]; it cannot be distinguished from the best fixed choice (cutmix@0.5, picked on "
        "validation): +0.1 points [−0.9, +1.1]."  # noqa: RUF001
    )


def test_when_not_mixing_is_the_best_fixed_choice_it_is_named_once(run):
    edit(run, lambda result: result.update(best_fixed="none"))
    verdict = verdict_of(run)
    assert "no mixing (the best fixed choice, picked on validation)" in verdict
    assert verdict.count("no mixing") == verdict.count("best fixed") == 1


def test_the_losses_are_named_beside_the_verdict(run):
    def change(result):
        for difference in result["agent_minus"].values():
            difference |= {"mean": 0.01, "ci95": [0.005, 0.015]}
        result["agent_minus"]["linear_ramp"] |= {"mean": -0.01, "ci95": [-0.015, -0.005]}

    edit(run, change)
    tally = text.tally(text.reported_differences(read_run(run)))
    assert tally == "Of all 15 others it beats 14 and loses to 1 (linear_ramp)."
