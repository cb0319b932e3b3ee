"""A comparison on a suite, from its trials to the terminal and the page."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from automix.agents.cli.tables import print_result
from automix.agents.config.settings import CompareSettings, RunSettings, WorldsSettings
from automix.agents.contest.by_world import harm_line, over_worlds, world_rows
from automix.agents.contest.summary import score_table
from automix.agents.jobs.run import run_compare, run_train
from automix.agents.report.run_files import read_run
from automix.envs.settings import EnvSettings
from tests.agents import tiny_run

SETTINGS = RunSettings(
    worlds=WorldsSettings(suite={"a": {}, "b": {}}),
    env=EnvSettings(decisions=2),
    compare=CompareSettings(draws=8, seeds=3, resamples=500),
)
SUITE = (
    "worlds.suite={short: {task: {train_sizes: [40], label_noise: [0.0, 0.1, 0.3]}},"
    " long: {trainer: {epochs: [3, 4]}, task: {train_sizes: [60]}}}",
    "env.decisions=2",
    "compare.contestants=[agent,none,random,fixed:cutmix@0.5]",
    "compare.kinds=[]",
)


def table(agent: float, none: float, tasks: int = 4, runs: int = 3, noise: float = 0.001) -> Any:
    rng = np.random.default_rng(0)
    spread = noise * rng.normal(size=(tasks, runs))
    own = {"agent": agent, "none": none, "fixed:cutmix@0.5": 0.5}
    return {name: value + (spread if name == "agent" else 0) for name, value in own.items()} | {
        "none": np.full((tasks, runs), none),
        "fixed:cutmix@0.5": np.full((tasks, runs), 0.5),
    }


@pytest.mark.parametrize(
    ("world", "harmed"),
    [
        (table(0.58, 0.60), True),
        (table(0.596, 0.60), False),  # below by less than half a point
        (table(0.58, 0.60, noise=0.1), False),  # the interval spans zero
        (table(0.70, 0.60), False),
        (table(0.40, 0.60, tasks=3), None),  # nine training runs
        (table(0.40, 0.60, tasks=1, runs=12), True),
    ],
)
def test_harm_is_what_is_surely_and_notably_below_no_mixing(world, harmed):
    (row,) = world_rows({"a": world}, "fixed:cutmix@0.5", SETTINGS)
    assert row["harmed"] is harmed
    assert (row["n"], row["best_fixed"]) == (world["agent"].size, 0.5)
    low, high = row["agent_minus_none"]["ci95"]
    assert low <= row["agent_minus_none"]["mean"] <= high


def test_harm_in_words():
    tables = {"a": table(0.5, 0.6), "b": table(0.7, 0.6), "c": table(0.5, 0.6, tasks=2)}
    assert harm_line(world_rows(tables, None, SETTINGS)).endswith(
        "in 1 of 2 worlds: a; 1 with fewer training runs are not judged."
    )
    assert harm_line(world_rows({"c": tables["c"]}, None, SETTINGS)) == ""


def test_every_world_counts_once_over_worlds():
    tables = {"a": table(0.7, 0.6, tasks=40, noise=0), "b": table(0.5, 0.6, tasks=2, noise=0)}
    found = over_worlds(tables, SETTINGS)["none"]
    assert found["mean"] == pytest.approx(0.0)
    np.testing.assert_allclose(found["ci95"], [-0.1, 0.1])
    assert over_worlds({"a": tables["a"]}, SETTINGS) == {}


def test_kinds_of_a_world_are_rows_of_their_own():
    trials = [
        {"contestant": "x", "task": "a", "train_size": s, "label_noise": n, "test_accuracy": s + n}
        for s in (1, 2)
        for n in (0.0, 0.5)
        for _ in range(3)
    ]
    assert score_table(trials, "x").tolist() == [[1.0] * 3, [1.5] * 3, [2.0] * 3, [2.5] * 3]


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    path = tmp_path_factory.mktemp("suite") / "run"
    run_train(tiny_run.settings(*SUITE), path)
    return path


def test_a_policy_that_chooses_every_epoch_can_be_asked_about_a_suite(run, tmp_path):
    result = run_compare(tiny_run.settings(*SUITE, f"policy={run}"), tmp_path / "run")
    assert [row["n"] for row in result["worlds"]] == [6, 4, 4]
    assert "budget 2 to 4 epochs; learned on 2" in result["scope"]["outside"]


def test_a_suite_is_learned_compared_and_reported_world_by_world(learned, tmp_path, capsys):
    """With kinds, of which the worlds have three and two; with draws, dealt out in turn."""
    names = ["short", "long epochs=3", "long epochs=4"]
    given = tiny_run.settings(*SUITE, f"policy={learned}")
    drawn = replace(given.compare, draws=7, seeds=2)
    run_compare(replace(given, compare=drawn), tmp_path / "drawn")
    for path, counts in (
        (learned, [(6, 6), (4, 4), (4, 4)]),
        (tmp_path / "drawn", [(3, 6), (2, 4), (2, 4)]),
    ):
        result = json.loads((path / "result.json").read_text())
        rows = result["worlds"]
        assert [row["world"] for row in rows] == result["tasks"] == names
        assert [(row["tasks"], row["n"]) for row in rows] == counts
        assert set(result["agent_minus_over_worlds"]) == set(result["agent_minus"])
        print_result(result)
        out = capsys.readouterr().out
        assert out.count("long epochs=4") == 1
        assert "agent minus none" in out
        assert "Over worlds, each counted once, agent minus none " in out
        assert ("asked for 3 worlds: digits" in out) == (path != learned)
        page = (path / "report" / "index.html").read_text()
        assert "classifiers are trained in 3 worlds" in page
        assert page.count('<th scope="row">long epochs=4</th>') >= 1
        assert "World by world against" in page
        assert read_run(path).scores("none").size == sum(n for _, n in counts)
    about = json.loads((learned / "export" / "policy.json").read_text())["about"]
    assert [world["name"] for world in about["worlds"]] == names
    metrics = tiny_run.lines(learned / "metrics.jsonl")
    assert {kind for record in metrics for kind in record["by_kind"]} <= set(names)
