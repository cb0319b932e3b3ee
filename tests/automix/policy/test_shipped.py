"""Policies that come along: found by name, unless a folder of that name is there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from automix.agents.learning.export import copy_export
from automix.core.errors import ConfigError, DataError
from automix.policy.policy import MixPolicy, list_policies, load_policy, save_policy
from automix.policy.rule import load_rule
from automix.policy.schedule import load_schedule
from automix.policy.shipped import POLICIES, policy_folder, shipped
from tests import tiny


@pytest.fixture
def root(tmp_path):
    """Two policies and a folder that is none."""
    layers = [(np.zeros((2, 1), dtype=np.float32), np.array([0, 1], dtype=np.float32))]
    about = {"agent": "ppo", "dataset": "digits", "model": "small_cnn_w8", "budget": 20}
    for name in ("digits_full", "other"):
        save_policy(tmp_path / "root" / name, MixPolicy(tiny.ONE_MIX, layers, about))
    (tmp_path / "root" / "empty").mkdir()
    return tmp_path / "root"


def test_policies_are_listed_by_folder(root, tmp_path):
    assert list(shipped(root)) == ["digits_full", "other"]
    assert shipped(tmp_path / "nowhere") == {}
    assert load_policy(root / "other").summary == "ppo, digits, small_cnn_w8, 20 epochs"


def test_a_name_stands_for_the_folder_that_comes_along(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert policy_folder("digits_full", root) == root / "digits_full"
    load_policy(policy_folder("digits_full", root))
    (tmp_path / "digits_full").mkdir()
    assert policy_folder("digits_full", root).resolve() == tmp_path / "digits_full"


def test_a_misspelt_name_is_guessed_and_a_path_is_left_to_the_reader(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"'digits_ful' is neither .* 'digits_full'\?") as error:
        policy_folder("digits_ful", root)
    assert "digits_full, other" in error.value.hint
    with pytest.raises(DataError, match=r"runs/x/policy\.json does not exist"):
        load_policy(policy_folder("runs/x", root))


def test_a_name_will_do_wherever_a_policy_is_read(tmp_path, monkeypatch):
    run = tmp_path / "run" / "export"
    for given in ("digits_full", Path("digits_full"), run, run.parent, str(run.parent)):
        assert load_policy(given).about["dataset"] == "digits"
        assert len(load_schedule(given).actions) == 20
        copy_export(Path(given), run)
    for read, name in ((load_policy, "x" * 5000), (load_schedule, "digits_ful"), (load_rule, "x")):
        with pytest.raises(ConfigError, match="is neither a folder nor a policy that comes along"):
            read(name)


def test_all_that_come_with_this_package_can_be_read_and_say_what_they_were_learned_on():
    told = list_policies()
    assert list(told) == list(shipped(POLICIES))
    for name in told:
        assert load_policy(name).summary in told[name]
        assert load_schedule(name).actions
    assert told["digits_full"].endswith("20 epochs; 40 to 600 images of digits")
