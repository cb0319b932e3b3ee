"""The benchmark of transformers: who has a row, and what its bytes and times say."""

from __future__ import annotations

import gc
import time

import pytest
import torch

from automix.labels import LABEL_RULES
from automix.masks.method_steps import StepLoss, soft_losses
from automix.mixes import MIXES, MixInfo
from automix.mixing.actions import MixAction
from automix.nets.create import create_classifier
from benchmarks.measures import transformers
from benchmarks.measures.transformers import PLAIN, Alive, Cost, Size

SMALL = Size("small_cnn_w8", (1, 8, 8), 4, turns=False)
KIB = torch.zeros(256)
"""1024 bytes, made before anything is counted."""


@pytest.fixture
def net():
    return create_classifier(SMALL.model, num_classes=10, shape=SMALL.shape, seed=0).train()


def own_for_tests(net, step) -> StepLoss:
    return StepLoss(soft_losses(net(step.images), step.targets), torch.ones(len(step.images)))


@pytest.fixture
def registered(monkeypatch):
    MIXES.entry("none")  # finds all others
    monkeypatch.setattr(MIXES, "_entries", dict(MIXES._entries))
    MIXES.register("own_for_tests", MixInfo(step=True))(own_for_tests)
    MIXES.register("looks_for_tests", MixInfo(step=True, requires=("attention",)))(own_for_tests)


# Who is measured ---------------------------------------------------------------------------------


def test_whatever_steps_by_itself_and_every_label_rule_is_measured(net, registered):
    found = transformers.forms(net)
    assert found[0] == PLAIN
    methods = {action.method for action in found}
    assert {"hat", "style_consistency", "own_for_tests"} <= methods
    assert not {"mixup", "rmix"} & methods, "benchmarks.measures.menu has them"
    assert {"area", "perturbed", "cam_mass"} <= {action.label_rule for action in found}
    rules = {action.label_rule for action in found} - {""}
    assert rules <= {entry.name for entry in LABEL_RULES.entries()}


def test_what_a_net_cannot_play_is_left_out(net, registered):
    methods = {action.method for action in transformers.forms(net)}
    assert "looks_for_tests" not in methods


def test_every_form_takes_a_step(net):
    for action in transformers.forms(net):
        training = transformers.Training(SMALL, net, action)
        passes = training()
        assert min(passes) >= 1
        assert all(one.grad is not None for one in net.parameters()), str(action)


def test_passes_are_those_of_the_step_and_of_the_maps(net):
    wanted = {"none": (1, 1), "hat": (4, 3), "style_consistency": (3, 3), "cutmix+gradient": (2, 2)}
    for action, passes in wanted.items():
        assert transformers.Training(SMALL, net, MixAction.parse(action))() == passes, action


def test_a_run_out_of_time_says_what_is_missing():
    costs, missing = transformers.measured(SMALL, time.perf_counter() - 1)
    assert list(costs) == [PLAIN]
    assert MixAction("hat", 0.5) in missing


# Bytes -------------------------------------------------------------------------------------------


def test_the_peak_is_what_was_there_at_once():
    """Two at a time, then one of four times the size, alone."""
    with Alive() as alive:
        one = KIB + 1
        two = one + 1
        assert alive.peak == 2048
        del one, two
        gc.collect()
        assert (KIB.repeat(4) + 0).numel() == 1024
    assert alive.peak == 2 * 4096
    with Alive() as alive:
        four = KIB.repeat(4)
    assert alive.peak == 4096 == four.nbytes


def test_what_was_there_before_and_views_and_writing_in_place_cost_nothing():
    given = KIB.clone()
    with Alive() as alive:
        given.view(16, 16).t().add_(1)
        given.detach().mul_(2)
    assert alive.peak == 0


def test_a_backward_pass_counts_with_what_it_keeps():
    weight = torch.zeros(256, requires_grad=True)
    with Alive() as alive:
        first = (weight * KIB).exp()
        second = first.exp()
        second.sum().backward()
    # exp keeps its answer: two of them and the loss, and on the way back at least a gradient.
    assert alive.peak >= 3 * 1024
    assert alive.peak <= 6 * 1024


# Rows --------------------------------------------------------------------------------------------


def test_rows_are_told_against_the_plain_step():
    costs = {
        MixAction("hat", 0.5): Cost(0.4, 3_000_000, (4, 3)),
        PLAIN: Cost(0.1, 2_000_000, (1, 1)),
        MixAction("style_consistency", 0.5): Cost(0.05, 6_000_000, (3, 3)),
    }
    plain, cheap, dear = transformers.rows_of(SMALL, costs)
    actions = [row["action"] for row in (plain, cheap, dear)]
    assert actions == ["none", "style_consistency@0.5", "hat@0.5"]
    assert dear["times a plain step"] == pytest.approx(4)
    assert (dear["MB"], dear["times its MB"]) == (3.0, 1.5)
    assert dear["passes"] == "4F + 3B"
    assert set(plain) == set(transformers.COLUMNS)
