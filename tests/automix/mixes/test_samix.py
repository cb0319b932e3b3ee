"""SAMix: where it is AutoMix, and what its block is paid for beyond that."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import torch
from torch.testing import assert_close

from automix.masks.learned.groups import regrouped
from automix.masks.learned.mix_block import JointBlock
from automix.mixes.samix import samix
from tests.automix.masks.learned.learning import (
    Onlooker,
    begun,
    classifier,
    cross_entropy,
    gradients,
    maps_of,
    slopes_by_hand,
    step_of,
)
from tests.cases import each

SHARES = np.linspace(0.15, 0.85, 6)


def test_a_frozen_half_mask_is_mixup():
    net = Onlooker(classifier())
    state = begun("samix", net.net, lr=0.0)
    for weight in state.block.value[2].parameters():
        weight.data.zero_()
    step = step_of(state, 0.5)
    told = samix(net, step)
    assert torch.equal(net.shown[0], (step.images + step.images[step.partner]) / 2)
    assert torch.equal(told.own_share, torch.full((6,), 0.5))


@each("contrast", [0.0, 5.0])
def test_the_block_is_paid_for_clear_masks(contrast):
    state = begun("samix", classifier(seed=1))
    step = step_of(state, SHARES)
    drawn = regrouped(replace(step, rng=copy.deepcopy(step.rng)))
    maps, frozen = maps_of(state.net, step.images), copy.deepcopy(state.net)

    def loss(block):
        share, other = drawn.weights[1], drawn.who[1]
        mask = block(torch.stack([maps, maps[other]]), drawn.weights, (8, 8))[1]
        logits = frozen((1 - mask) * step.images + mask * step.images[other])
        lam = 1 - share[:, None]
        targets = lam * step.targets + (1 - lam) * step.targets[other]
        areas = ((mask.mean((1, 2, 3)) - share).abs() - 0.1).clamp(min=0)
        flat = mask.flatten(1)
        variance = (flat - flat.mean(1, keepdim=True)).square().mean(1)
        costs = cross_entropy(logits, targets) + 2.0 * (areas - contrast * variance)
        return costs.mean()

    assert isinstance(state.block, JointBlock)
    wanted = slopes_by_hand(state, loss)
    got = gradients(state, lambda: samix(classifier(), step, area=2.0, contrast=contrast))
    for name, value in got.items():
        assert_close(value, wanted[name], atol=1e-5, rtol=1e-3)
        assert float(value.abs().max()) > 1e-3


def test_it_trains_on_what_its_block_draws_and_on_the_images():
    net = Onlooker(classifier())
    state = begun("samix", net.net)
    step, block = step_of(state, SHARES), copy.deepcopy(state.block)
    told = samix(net, step)
    maps = maps_of(state.net, step.images)
    weights = torch.from_numpy(np.stack([1 - SHARES, SHARES])).float()
    with torch.no_grad():
        own, partner = block(torch.stack([maps, maps[step.partner]]), weights, (8, 8))
    mixed, clean = net.shown
    assert_close(mixed, own * step.images + partner * step.images[step.partner])
    assert torch.equal(clean, step.images)
    twin, targets = classifier(), step.mixed_targets(weights[0])
    wanted = cross_entropy(twin(mixed), targets) + cross_entropy(twin(clean), step.targets)
    assert_close(told.losses, wanted)
    assert told.passes == (3, 2)
