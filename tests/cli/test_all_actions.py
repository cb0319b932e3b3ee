"""``env.actions.methods=[all]`` on the command line: a run names what it stands for."""

from __future__ import annotations

import json

import pytest
import yaml

from automix.agents.config.compose import load_settings
from automix.agents.jobs.run import train_or_resume
from automix.mixes import MIXES, MixInfo
from automix.policy.policy import load_policy
from tests.agents.tiny_run import WORDS

ALL = ("env.actions.methods=[all]", "env.actions.ratios=[0.5]", "env.actions.space=flat")
BLIND = "trainer.model=dropout_cnn_for_tests"
"""A net that shows no feature map (``tests.tiny``)."""


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Register three methods, and one that looks at the feature map, for a test."""
    list(MIXES)  # discover what there is before the copy
    few = {name: MIXES._entries[name] for name in ("none", "mixup", "cutmix", "rmix")}
    monkeypatch.setattr(MIXES, "_entries", few)
    monkeypatch.setattr("automix.envs.vocabulary.PRESETS", {"lumix": "cutmix:perturbed"})
    MIXES.register("looking_mix", MixInfo(requires=("features",)))(MIXES["mixup"])


def test_the_plan_names_what_all_stands_for_and_the_log_what_it_leaves_out(cli):
    words = [w for w in WORDS if not w.startswith("compare.contestants")]
    methods = ["none", "cutmix", "mixup", "rmix", "lumix"]
    actions = ["none", "cutmix@0.5", "mixup@0.5", "rmix@0.5", "cutmix@0.5:perturbed"]
    for command in ("train", "compare"):
        outcome = cli(command, "--dry-run", "--json", *words, *ALL, BLIND)
        assert outcome.code == 0
        document = json.loads(outcome.out)
        assert document["config"]["env"]["actions"]["methods"] == methods
        assert document["plan"]["actions"] == actions
        (line,) = (line for line in outcome.err.splitlines() if "leaves out" in line)
        assert "looking_mix (needs the features of the net" in line


def test_what_is_named_and_cannot_be_played_ends_with_code_2(cli):
    outcome = cli("train", *WORDS, "env.actions.methods=[all,looking_mix]", BLIND)
    outcome.assert_refused(
        2, "looking_mix needs the features of the net", "nets that show it: small_cnn_w8"
    )
    assert "cutmix" in outcome.hint


def test_a_run_and_its_policy_hold_the_names(tmp_path):
    settings = load_settings([*WORDS, *ALL])
    train_or_resume(settings, tmp_path / "run")
    wanted = ["none", "cutmix", "looking_mix", "mixup", "rmix", "lumix"]
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["env"]["actions"]["methods"] == wanted
    assert list(load_policy(tmp_path / "run" / "export").form.methods) == wanted
    # Finished, so that it is read, and not refused for other settings.
    assert train_or_resume(settings, tmp_path / "run")["contestants"]
