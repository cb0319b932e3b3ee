"""Policies that come along: found by name, unless a folder of that name is there."""

from __future__ import annotations

import numpy as np
import pytest

from automix.core.errors import ConfigError, DataError
from automix.policy.policy import MixPolicy, PolicyForm, load_policy, save_policy
from automix.policy.shipped import POLICIES, policy_folder, shipped, summary_of


@pytest.fixture
def root(tmp_path):
    """Two policies and a folder that is none."""
    form = PolicyForm(
        observations=["progress"],
        observation_sizes=[1],
        methods=["none", "mixup"],
        ratios=[0.5],
        saliency=["off"],
        space="flat",
        choices=["none", "mixup@0.5"],
    )
    layers = [(np.zeros((2, 1), dtype=np.float32), np.array([0, 1], dtype=np.float32))]
    about = {"agent": "ppo", "dataset": "digits", "model": "small_cnn_w8", "budget": 20}
    for name in ("digits_full", "other"):
        save_policy(tmp_path / "root" / name, MixPolicy(form, layers, about))
    (tmp_path / "root" / "empty").mkdir()
    return tmp_path / "root"


def test_policies_are_listed_by_folder(root, tmp_path):
    assert list(shipped(root)) == ["digits_full", "other"]
    assert shipped(tmp_path / "nowhere") == {}
    assert summary_of(root / "other") == "ppo, digits, small_cnn_w8, 20 epochs"


def test_a_name_stands_for_the_folder_that_comes_along(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert policy_folder("digits_full", root) == root / "digits_full"
    load_policy(policy_folder("digits_full", root))
    (tmp_path / "digits_full").mkdir()
    assert policy_folder("digits_full", root).resolve() == tmp_path / "digits_full"


def test_a_misspelt_name_is_guessed_and_a_path_is_left_to_the_reader(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"policy=digits_ful: .* 'digits_full'\?") as error:
        policy_folder("digits_ful", root)
    assert "digits_full, other" in error.value.hint
    with pytest.raises(DataError, match=r"runs/x/policy\.json does not exist"):
        load_policy(policy_folder("runs/x", root))


def test_all_that_come_with_this_package_can_be_read():
    for folder in shipped(POLICIES).values():
        assert summary_of(folder)
        assert (folder / "schedule.yaml").is_file()
