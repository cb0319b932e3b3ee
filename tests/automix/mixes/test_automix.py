"""AutoMix: what the classifier learns from, what the Mix Block does, and what neither touches."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import torch
from torch.testing import assert_close

from automix.core.seeding import generator
from automix.masks.learned.groups import regrouped
from automix.mixes import MIXES
from automix.mixes.automix import automix
from automix.mixing.actions import MixAction
from automix.mixing.loss import loss_of
from tests.automix.masks.learned.learning import (
    METHODS,
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

SHARES = np.linspace(0.15, 0.85, 6)


def begun_at_half(net, **options):
    """A block that gives every image the half, and never learns."""
    state = begun("automix", net, lr=0.0, **options)
    for weight in state.block.value.parameters():
        weight.data.zero_()
    return state


def test_a_frozen_half_mask_is_mixup():
    net = Onlooker(classifier())
    step = step_of(begun_at_half(net.net), 0.5)
    told = automix(net, step)
    mixed, clean = net.shown
    assert torch.equal(mixed, (step.images + step.images[step.partner]) / 2)
    assert torch.equal(clean, step.images)
    assert torch.equal(told.own_share, torch.full((6,), 0.5))
    twin = classifier()
    wanted = cross_entropy(twin(mixed), (step.targets + step.targets[step.partner]) / 2)
    assert_close(told.losses, wanted + cross_entropy(twin(clean), step.targets))


def test_the_label_is_what_was_wanted_whatever_the_mask_shows():
    net = Onlooker(classifier())
    step = step_of(begun_at_half(net.net), SHARES)
    told = automix(net, step, clean=0.0)
    assert torch.equal(net.shown[0], (step.images + step.images[step.partner]) / 2)
    wanted = step.mixed_targets(torch.from_numpy(1 - SHARES))
    assert_close(told.losses, cross_entropy(classifier()(net.shown[0]), wanted))
    assert torch.equal(told.own_share, torch.full((6,), 0.5))


def test_next_to_an_end_mixup_is_played():
    share = np.array([0.0, 0.05, 0.3, 0.7, 0.95, 1.0])
    net = Onlooker(classifier())
    step = step_of(begun("automix", net.net), share)
    told = automix(net, step)
    s = torch.from_numpy(share).float()[:, None, None, None]
    plain = (1 - s) * step.images + s * step.images[step.partner]
    for i in range(6):
        assert torch.equal(net.shown[0][i], plain[i]) is (i not in (2, 3))
    assert torch.equal(net.shown[0][0], step.images[0])
    assert_close(told.own_share[[0, 1, 4, 5]], 1 - s[[0, 1, 4, 5], 0, 0, 0])


def test_the_classifier_is_shown_what_the_block_draws():
    net = Onlooker(classifier())
    state = begun("automix", net.net)
    step, block = step_of(state, SHARES), copy.deepcopy(state.block)
    told = automix(net, step)
    maps = maps_of(state.net, step.images)
    weights = torch.from_numpy(np.stack([1 - SHARES, SHARES])).float()
    with torch.no_grad():
        own, partner = block(torch.stack([maps, maps[step.partner]]), weights, (8, 8))
    mixed = own * step.images + partner * step.images[step.partner]
    assert_close(net.shown[0], mixed)
    assert_close(told.own_share, own.mean((1, 2, 3)))
    assert float(own.std((1, 2, 3)).min()) > 0.01


def test_the_classifier_learns_by_the_loss_of_its_mask_alone():
    """Its slopes are those of a loss written by hand, to which the mask is given."""
    net = Onlooker(classifier())
    state = begun("automix", net.net)
    kept = {name: value.clone() for name, value in state.net.state_dict().items()}
    step = step_of(state, SHARES)
    told = automix(net, step, clean=0.5)
    assert all(weight.grad is None for weight in net.parameters())
    told.losses.mean().backward()
    mixed, twin = net.shown[0], classifier()
    assert not mixed.requires_grad
    targets = step.mixed_targets(torch.from_numpy(1 - SHARES))
    wanted = cross_entropy(twin(mixed), targets) + 0.5 * cross_entropy(
        twin(step.images), step.targets
    )
    wanted.mean().backward()
    for own, other in zip(net.net.parameters(), twin.parameters(), strict=True):
        assert_close(own.grad, other.grad)
    assert all(weight.grad is None for weight in state.net.parameters())
    assert all(weight.grad is None for weight in state.block.parameters())
    for name, value in state.net.state_dict().items():
        assert torch.equal(value, kept[name])


def test_both_passes_of_the_classifier_move_its_statistics_and_no_other():
    net, twin = classifier(), classifier()
    onlooker = Onlooker(net)
    automix(onlooker, step_of(begun("automix", net)))
    for images in onlooker.shown:
        twin(images)
    for own, other in zip(net.buffers(), twin.buffers(), strict=True):
        assert_close(own, other)


def test_the_block_learns_by_what_the_slow_copy_makes_of_other_mixtures():
    state = begun("automix", classifier(seed=1))
    step = step_of(state, SHARES)
    drawn = regrouped(replace(step, rng=copy.deepcopy(step.rng)))
    maps, frozen = maps_of(state.net, step.images), copy.deepcopy(state.net)
    assert not torch.equal(drawn.who[1], step.partner)

    def loss(block):
        share = drawn.weights[1]
        mask = block(torch.stack([maps, maps[drawn.who[1]]]), drawn.weights, (8, 8))[1]
        mixed = (1 - mask) * step.images + mask * step.images[drawn.who[1]]
        lam = 1 - share[:, None]
        targets = lam * step.targets + (1 - lam) * step.targets[drawn.who[1]]
        areas = ((mask.mean((1, 2, 3)) - share).abs() - 0.1).clamp(min=0)
        assert bool((areas > 0.05).any())
        return cross_entropy(frozen(mixed), targets).mean() + 3.0 * areas.mean()

    wanted = slopes_by_hand(state, loss)
    got = gradients(state, lambda: automix(classifier(), step, area=3.0))
    for name, value in got.items():
        assert_close(value, wanted[name], atol=1e-5, rtol=1e-3)
        assert float(value.abs().max()) > 1e-3
    assert state.learned == 1


def test_it_says_how_many_passes_it_takes():
    state = begun("automix", classifier())
    assert automix(classifier(), step_of(state)).passes == (3, 2)
    assert automix(classifier(), step_of(state), clean=0.0).passes == (2, 1)


@each("method", METHODS)
def test_passes_are_those_that_are_made(method):
    """Counted exactly, as calls of the first layer, of the classifier and of its slow copy."""
    net = classifier()
    state, calls = begun(method, net), []
    for one in (net, state.net):
        one.features[0].register_forward_hook(lambda *_: calls.append(1))
    step, action = step_of(state), MixAction.parse(f"{method}@0.5")
    rng = generator(0, "mix")
    told = loss_of(net, step.images, step.targets, action, num_classes=6, rng=rng, state=state)
    assert told.passes[0] == len(calls) - 1


@each("method", METHODS)
def test_a_loss_can_be_looked_at_where_no_gradients_are_kept(method):
    net = classifier()
    state, step = begun(method, net), step_of(begun(method, net))
    with torch.no_grad():
        loss_of(
            *(net, step.images, step.targets, MixAction.parse(f"{method}@0.5")),
            num_classes=6,
            rng=generator(0, "mix"),
            state=state,
        )
    assert state.learned == 1


@each("method", METHODS)
def test_half_precision_trains_and_keeps_masks_whole(method):
    net = Onlooker(classifier())
    state, action = begun(method, net.net), MixAction.parse(f"{method}@0.5")
    step = step_of(state)
    with torch.autocast("cpu", torch.bfloat16):
        result = loss_of(
            *(net, step.images, step.targets, action),
            num_classes=6,
            rng=generator(0, "mix"),
            state=state,
        )
    assert result.losses.dtype == result.own_share.dtype == net.shown[0].dtype == torch.float32
    assert all(weight.dtype == torch.float32 for weight in state.block.parameters())
    result.losses.mean().backward()
    assert all(bool(weight.grad.isfinite().all()) for weight in net.parameters())


@each("method", ["automix", "samix"])
def test_a_block_learns_to_draw_what_can_be_read(method):
    """Sixty steps, the slow copy held still: its loss on mixtures that are kept aside falls."""
    net = copy.deepcopy(taught()[0])
    state = fresh(method, net)
    before = read(state)
    for seed in range(60):
        MIXES[method](net, lesson(state, seed))
    after = read(state)
    assert after[0] < before[0] - 0.1
    assert after[1] > before[1] + 0.02
