"""AdAutoMix: three images really show, and every other step of its block is an adversary's."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from automix.masks.learned.groups import grouped, regrouped
from automix.mixes.adautomix import adautomix
from tests.automix.masks.learned.learning import (
    Onlooker,
    begun,
    classifier,
    cross_entropy,
    fresh,
    gradients,
    lesson,
    maps_of,
    read,
    slopes_by_hand,
    step_of,
    taught,
)
from tests.cases import each

SHARES = np.linspace(0.2, 0.9, 6)


def of_three(step):
    """Who is about to meet whom in a step, without drawing."""
    return grouped(replace(step, rng=copy.deepcopy(step.rng)), three=True)


def tried_by(step):
    """Who is about to meet whom in the mixtures that the block learns by."""
    rng = copy.deepcopy(step.rng)
    grouped(replace(step, rng=rng), three=True)
    return regrouped(replace(step, rng=rng), three=True)


def test_all_three_images_show_and_their_masks_sum_to_1():
    """Image i is white in channel i alone, so that the channels of a mixture are its masks."""
    shape = (6, 8, 8)
    net = Onlooker(classifier(shape))
    state = begun("adautomix", net.net, shape)
    step = step_of(state, SHARES, shape=shape)
    step = replace(step, images=torch.eye(6)[:, :, None, None].expand(6, 6, 8, 8))
    group = of_three(step)
    told = adautomix(net, step)
    mixed = net.shown[0]
    assert_close(mixed.sum(1), torch.ones(6, 8, 8))
    shows = mixed.mean((2, 3)) > 0.01
    for i, who in enumerate(group.who.T.tolist()):
        assert sorted(shows[i].nonzero()[:, 0].tolist()) == sorted(set(who))
        assert float(told.own_share[i]) == pytest.approx(float(mixed[i, i].mean()), abs=1e-6)
        # Not the constants that the official code puts in the place of its masks.
        assert float((mixed[i, i].mean() - group.weights[0, i]).abs()) > 1e-3
    assert any(len(set(who)) == 3 for who in group.who.T.tolist())


def test_masks_are_those_that_the_block_draws():
    net = Onlooker(classifier())
    state = begun("adautomix", net.net)
    step, block = step_of(state, SHARES), copy.deepcopy(state.block)
    group, maps = of_three(step), maps_of(state.net, step.images)
    adautomix(net, step)
    with torch.no_grad():
        masks = block(maps[group.who], group.weights, (8, 8))
    assert_close(net.shown[0], sum(masks[i] * step.images[group.who[i]] for i in range(3)))
    assert float(masks.std((3, 4)).min()) > 0.001


def test_the_classifier_learns_from_the_mixture_the_image_and_the_plain_blend():
    net = Onlooker(classifier())
    step = step_of(begun("adautomix", net.net), SHARES)
    group = of_three(step)
    told = adautomix(net, step, clean=0.3, plain=0.6)
    told.losses.mean().backward()
    mixed, clean, plain = net.shown
    who, weights, twin = group.who, group.weights, classifier()
    blend = sum(weights[i][:, None, None, None] * step.images[who[i]] for i in range(3))
    targets = sum(weights[i][:, None] * step.targets[who[i]] for i in range(3))
    assert_close(plain, blend)
    assert_close(targets.sum(1), torch.ones(6))
    losses = cross_entropy(twin(mixed), targets)
    losses = losses + 0.3 * cross_entropy(twin(clean), step.targets)
    losses = losses + 0.6 * cross_entropy(twin(blend), targets)
    assert_close(told.losses, losses)
    losses.mean().backward()
    for own, other in zip(net.net.parameters(), twin.parameters(), strict=True):
        assert_close(own.grad, other.grad)
    assert told.passes == (4, 3)


def test_losses_that_weigh_nothing_take_no_pass():
    net = Onlooker(classifier())
    state = begun("adautomix", net.net)
    assert adautomix(net, step_of(state), clean=0.0).passes == (3, 2)
    assert adautomix(net, step_of(state), clean=0.0, plain=0.0).passes == (2, 1)
    assert len(net.shown) == 3


@each("learned", [0, 1, 2, 3])
def test_every_other_step_of_the_block_is_an_adversarys(learned):
    """Its slopes are those of a loss written by hand: against the label, then for it."""
    state = begun("adautomix", classifier(seed=1))
    state.learned = learned
    step = step_of(state, SHARES)
    drawn, frozen = tried_by(step), copy.deepcopy(state.net)
    maps = maps_of(state.net, step.images)

    def loss(block):
        masks = block(maps[drawn.who], drawn.weights, (8, 8))
        logits = frozen(sum(masks[i] * step.images[drawn.who[i]] for i in range(3)))
        targets = sum(drawn.weights[i][:, None] * step.targets[drawn.who[i]] for i in range(3))
        losses = cross_entropy(logits, targets)
        if learned % 2 == 0:
            alike = torch.zeros(6)
            for i in range(3):
                clean = frozen(step.images[drawn.who[i]]).detach()
                norms = logits.norm(dim=1) * clean.norm(dim=1)
                alike = alike + drawn.weights[i] * (logits * clean).sum(1) / norms
            losses = -0.3 * losses + 0.7 * alike
        areas = (masks.mean((2, 3, 4)) - drawn.weights).abs() - 0.1
        return (losses + 2.0 * areas.clamp(min=0).sum(0) / 2).mean()

    wanted = slopes_by_hand(state, loss)
    got = gradients(state, lambda: adautomix(classifier(), step, area=2.0))
    for name, value in got.items():
        assert_close(value, wanted[name], atol=1e-5, rtol=1e-3)
        assert float(value.abs().max()) > 1e-3
    assert state.learned == learned + 1


def test_next_to_an_end_the_three_are_plainly_blended():
    share = np.array([0.0, 0.02, 0.5, 0.5, 0.98, 1.0])
    net = Onlooker(classifier())
    step = step_of(begun("adautomix", net.net), share)
    group = of_three(step)
    adautomix(net, step)
    mixed, _, plain = net.shown
    assert torch.equal(mixed[0], step.images[0])
    assert [torch.equal(*pair) for pair in zip(mixed, plain, strict=True)] == [
        *(True, True, False, False, True, True)
    ]
    assert float(group.weights[0, 5]) == 0


def learnt(**settings) -> tuple[float, float]:
    """How badly the slow copy reads a block's mixtures before and after forty steps."""
    net = copy.deepcopy(taught()[0])
    state = fresh("adautomix", net)
    before = read(state, three=True)[0]
    for seed in range(40):
        adautomix(net, lesson(state, seed), clean=0.0, plain=0.0, **settings)
    return before, read(state, three=True)[0]


def test_an_adversary_makes_mixtures_harder_to_read_and_a_friend_easier():
    before, harder = learnt(every=1, hardness=1.0, similarity=0.0)
    _, easier = learnt(every=10**6, hardness=0.0, similarity=0.0)
    assert harder > before + 0.05
    assert easier < before - 0.05
