"""Suites as people write them, and what is said of those that cannot be used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from automix.agents.config.settings import RunSettings
from automix.agents.config.worlds import compared_worlds, present, samples, worlds_of
from automix.agents.jobs.check import check
from automix.agents.jobs.cost import classifier_epochs
from automix.core.errors import AutomixError, DataError
from tests.agents import tiny_run

TWO = "env.decisions=2"
GOOD = {"a": {"trainer": {"epochs": [2, 5]}}, "b": {"task": {"train_sizes": [50]}}}
AWAY: dict[str, Any] = {"task": {"dataset": "npz", "root": "nowhere.npz"}}


def given(tmp_path: Path, suite: Any, *words: str) -> RunSettings:
    """Return the tiny settings with a suite in a file."""
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump({"worlds": {"suite": suite}}))
    return tiny_run.settings(f"worlds={path}", *words)


def test_a_suite_is_a_name_a_file_or_a_value(tmp_path):
    names = ["a epochs=2", "a epochs=5", "b"]
    written = "worlds.suite={a: {trainer: {epochs: [2, 5]}}, b: {task: {train_sizes: [50]}}}"
    for settings in (given(tmp_path, GOOD, TWO), tiny_run.settings(written, TWO)):
        worlds = worlds_of(settings)
        assert [world.name for world in worlds] == names
        assert [world.trainer.epochs for world in worlds] == [2, 5, 2]
        assert [list(world.task.train_sizes) for world in worlds] == [[40, 60], [40, 60], [50]]
    several = worlds_of(
        given(tmp_path, {"a": {"trainer": {"epochs": [2, 5], "lr": [0.1, 0.2]}}}, TWO)
    )
    assert [w.name for w in several][1::2] == ["a epochs=2 lr=0.2", "a epochs=5 lr=0.2"]
    assert len(worlds_of(tiny_run.settings("worlds=embedded", "trainer.warmup_epochs=1"))) > 20


def test_worlds_are_compared_by_their_names_or_their_entrys(tmp_path):
    for asked, found in (
        ("[]", ["a epochs=2", "a epochs=5", "b"]),
        ("[a]", ["a epochs=2", "a epochs=5"]),
        ("[b,a epochs=5]", ["b", "a epochs=5"]),
        ("[a,a epochs=2]", ["a epochs=2", "a epochs=5"]),
    ):
        settings = given(
            tmp_path, GOOD, TWO, f"compare.worlds={asked}".replace("epochs=", "epochs\\=")
        )
        assert [world.name for world in compared_worlds(settings)] == found, asked


REFUSED: list[tuple[Any, list[str], str]] = [
    ({"a": 3}, [TWO], "world 'a' has 3, wanted task and trainer"),
    ({"a": ["task"]}, [TWO], "wanted task and trainer"),
    ({"a": {"env": {}}}, [TWO], "world 'a' has env, wanted task and trainer"),
    ({"a": {"trainer": 3}}, [TWO], "world 'a': trainer is 3, wanted its keys"),
    ({"a": {"trainer": {"epochs": []}}}, [TWO], "world 'a': trainer.epochs is an empty list"),
    ({"a": {"trainer": {"epoch": 3}}}, [TWO], "world 'a': trainer: Key 'epoch'.*'epochs'"),
    ({"a": {"task": {"datset": "x"}}}, [TWO], "world 'a': task: Key 'datset'.*'dataset'"),
    ({"a": {"trainer": {"epochs": ["x", 3]}}}, [TWO], "world 'a': trainer: Value 'x'"),
    ({"a": {"trainer": {"epochs": 0}}}, [TWO], "world 'a': .*epochs is 0"),
    (
        {"a": {"trainer": {"epochs": [3, 3]}}},
        [TWO],
        "named .'a epochs=3', 'a epochs=3'.*of its own",
    ),
    ({"a b": {}}, [TWO], "an entry 'a b', wanted a name without blanks"),
    ({"a": {"task": {"dataset": "digts"}}}, [TWO], "world 'a': 'digts' .*'digits'"),
    ({"a": {"trainer": {"model": "small_cnn_w81"}}}, [TWO], "world 'a': .*'small_cnn_w8'"),
    (GOOD, [], "env.decisions is 0"),
    (GOOD, ["env.decisions=4"], "world 'a epochs=2': a budget of 2 epochs is shorter than its 4"),
    (GOOD, [TWO, "compare.worlds=[c]"], "compare.worlds names 'c', which is not in worlds.suite"),
    ({}, [TWO, "compare.worlds=[a]"], "compare.worlds names 'a'"),
    ({}, ["env.decisions=4"], "^a budget of 2 epochs is shorter than its 4 decisions"),
    ({"here": {}, "away": AWAY}, [TWO], "world 'away': .*nowhere.npz"),
    (GOOD, [TWO, "compare.draws=3"], ""),
    (
        {"a": {}, "b": {"trainer": {"mix": {"label_rule": "saliency_mass"}}}},
        [TWO],
        "world 'b': .*saliency_mass",
    ),
]
"""Suite, overrides, and what is said; nothing where it is fine."""


@pytest.mark.parametrize(("suite", "words", "says"), REFUSED)
def test_a_suite_that_cannot_be_used_is_refused_in_one_line(tmp_path, suite, words, says):
    if not says:
        check(given(tmp_path, suite, *words), learns=True)
        return
    with pytest.raises(AutomixError, match=says) as refused:
        check(given(tmp_path, suite, *words), learns=True)
    assert "\n" not in refused.value.message


def test_a_file_that_holds_no_suite_is_refused(tmp_path):
    path = tmp_path / "suite.yaml"
    for content, says in (
        ("[]", "holds no suite of worlds"),
        ("worlds: 3", "holds no suite of worlds"),
        ("worlds: {suite: {a: {task: {dataset: '${seed}'}}}}", "interpolation"),
        ("worlds: {suit: {}}", "worlds.suit: "),
        ("worlds: {suite: {}}\nagent: {nme: x}", "nme"),
        ("worlds: {suite: 3}", "worlds.suite"),
        ("{", "is not plain YAML"),
    ):
        path.write_text(content)
        with pytest.raises(AutomixError, match=says):
            tiny_run.settings(f"worlds={path}")
    with pytest.raises(DataError, match="does not exist"):
        tiny_run.settings(f"worlds={tmp_path / 'none.yaml'}")


def test_a_world_without_its_files_is_left_out_if_that_is_allowed(tmp_path, caplog):
    suite = {"here": {}, "away": AWAY | {"trainer": {"epochs": [2, 3]}}}
    with pytest.raises(DataError) as refused:
        present(given(tmp_path, suite, TWO))
    assert "worlds.skip_missing=true" in refused.value.hint
    left = present(given(tmp_path, suite, TWO, "worlds.skip_missing=true"))
    assert list(left.worlds.suite) == ["here"]
    (line,) = (
        record.getMessage() for record in caplog.records if "left out" in record.getMessage()
    )
    assert "world 'away epochs=2': " in line
    with pytest.raises(AutomixError, match="no world that can be had here"):
        present(given(tmp_path, {"away": AWAY}, TWO, "worlds.skip_missing=true"))


def test_a_policy_that_cannot_be_asked_is_refused(tmp_path, run):
    folder = Path(shutil.copytree(run / "export", tmp_path / "policy"))
    content = json.loads((folder / "policy.json").read_text())

    def refused(says: str, **form: Any) -> None:
        (folder / "policy.json").write_text(json.dumps(content | {"form": content["form"] | form}))
        for learns in (False, True):
            with pytest.raises(AutomixError, match=says):
                check(given(tmp_path, GOOD, TWO, f"policy={folder}"), learns=learns)

    names = content["form"]["observations"]
    refused("the policy cannot be asked: 'fold'", observations=[*names[:-1], "fold"])
    refused("world 'a epochs=2': a budget of 2 epochs is shorter than its 4", decisions=4)


def test_every_worlds_budget_is_counted_in_what_a_run_costs(tmp_path):
    settings = given(tmp_path, GOOD, TWO, "compare.kinds=[]")
    # Five contestants; four kinds of 2 and of 5 epochs, two of 2 epochs; two seeds each.
    assert classifier_epochs(settings, learns=True) == {
        "learning": 8 * (2 + 5 + 2) // 3,
        "comparing": 5 * 2 * (4 * 2 + 4 * 5 + 2 * 2),
    }
    assert [spec.world for spec in samples(settings)][-2:] == ["b", "b"]
