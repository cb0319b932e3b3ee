"""Who is mixed with whom."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from automix.masks.learned.groups import Group, grouped, regrouped
from tests.automix.masks.learned.learning import begun, classifier, step_of
from tests.automix.mixes.drawing import noise
from tests.cases import each


def step_with(share, **more):
    return step_of(begun("automix", classifier()), share, **more)


@each("three", [False, True])
def test_weights_are_the_shares_of_the_step(three):
    share = np.linspace(0, 1, 6)
    step = step_with(share)
    group = grouped(step, three=three)
    assert group.who[:2].tolist() == [list(range(6)), step.pairs.partner.tolist()]
    assert_close(group.weights.sum(0), torch.ones(6))
    assert_close(group.weights[0], torch.from_numpy(1 - share).float())
    assert float(group.weights.min()) >= 0
    assert len(group.weights) == len(group.who) == 2 + three


def test_a_second_partner_is_another_and_the_split_differs():
    group = grouped(step_with(0.5, b=40), three=True)
    own, _, third = group.who
    assert not bool((own == third).any())
    parts = group.weights[1] / 0.5
    assert float(parts.min()) < 0.15
    assert float(parts.max()) > 0.85


def test_who_meets_whom_is_drawn_anew_and_the_shares_are_dealt_anew():
    share = np.linspace(0.1, 0.9, 20)
    step = step_with(share, b=20)
    first, second = grouped(step), regrouped(step)
    assert not torch.equal(first.who[1], second.who[1])
    assert sorted(second.who[1].tolist()) == list(range(20))
    assert not torch.equal(first.weights, second.weights)
    assert sorted(second.weights[1].tolist()) == pytest.approx(share.tolist())


def test_blends_by_hand():
    who = torch.tensor([[0, 1, 2], [2, 0, 1], [1, 2, 0]])
    weights = torch.tensor([[0.5, 1.0, 0.2], [0.3, 0.0, 0.2], [0.2, 0.0, 0.6]])
    group, targets = Group(who, weights), torch.eye(3)
    wanted = [[0.5, 0.2, 0.3], [0.0, 1.0, 0.0], [0.6, 0.2, 0.2]]
    assert_close(group.targets(targets), torch.tensor(wanted))
    images = noise(0, 3, 2, 4, 5)
    plain = group.mixed(images, group.plain())
    assert_close(plain, torch.einsum("nb,nbchw->bchw", weights, images[who]))
    assert torch.equal(plain[1], images[1])
    mask = noise(1, 3, 3, 1, 4, 5).softmax(0)
    for i, j, k in who.T.tolist():
        one = mask[0, i] * images[i] + mask[1, i] * images[j] + mask[2, i] * images[k]
        assert_close(group.mixed(images, mask)[i], one)


def test_what_masks_miss_by_hand():
    who = torch.zeros(2, 4).long()
    group = Group(who, torch.tensor([[0.5, 0.42, 0.8, 0.0], [0.5, 0.58, 0.2, 1.0]]))
    half = torch.full((2, 4, 1, 3, 3), 0.5)
    assert_close(group.missed(half), torch.tensor([0.0, 0.0, 0.2, 0.4]))
    masks = torch.zeros(3, 1, 1, 1, 2)
    masks[0, ..., 0] = masks[2, ..., 1] = 1  # which show 1/2, 0, 1/2
    three = Group(torch.zeros(3, 1).long(), torch.tensor([[0.2], [0.75], [0.05]]))
    assert_close(three.missed(masks), torch.tensor([(0.2 + 0.65 + 0.35) / 2]))


@each("margin, mixup", [(0.0, [0, 5]), (0.08, [0, 1, 4, 5])])
def test_mixup_is_played_up_to_the_margin(margin, mixup):
    own = torch.tensor([0.0, 0.05, 0.2, 0.5, 0.95, 1.0])
    group = Group(torch.zeros(2, 6).long(), torch.stack([own, 1 - own]))
    masks = noise(0, 2, 6, 1, 4, 4).softmax(0)
    got = group.with_margin(masks, margin)
    for i in range(6):
        wanted = group.plain().expand_as(masks) if i in mixup else masks
        assert torch.equal(got[:, i], wanted[:, i])
