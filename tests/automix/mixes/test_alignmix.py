"""AlignMix: the plan, what it rearranges, and the step around it."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn as nn
from torch.testing import assert_close

from automix.core.seeding import borrowed_global_rng, generator
from automix.masks.method_steps import soft_losses
from automix.mixes import alignmix
from automix.mixes.alignmix import distances, log_plan
from automix.nets.create import create_classifier
from automix.nets.stages import stages
from automix.nets.zoo.pooled import PooledNet
from tests.automix.mixes.drawing import noise
from tests.automix.mixes.own_steps import CLASSES, MODELS, images, made, step_of
from tests.automix.nets.test_stages import NETS, net_of
from tests.cases import each

SHARES = (0.0, 0.2, 0.5, 0.7, 0.9, 1.0)
SEEDS = range(20)


def convolved() -> PooledNet:
    """One convolution, whose map of an 8 x 12 image has 3 x 5 places, and a linear tail."""
    with borrowed_global_rng(0):
        return PooledNet([nn.Conv2d(2, 5, 3, stride=2)], 5, CLASSES)


def slow_plan(cost: np.ndarray, eps: float) -> np.ndarray:
    """Scale rows and columns of exp(-cost / eps) in turn, as the method is written in books."""
    n, m = cost.shape
    kernel = np.exp(-cost / eps)
    rows, columns = np.ones(n), np.ones(m)
    for number in range(1, 101):
        before = rows
        rows = 1 / n / (kernel @ columns)
        columns = 1 / m / (kernel.T @ rows)
        if number % 10 == 0 and np.abs(eps * np.log(rows / before)).sum() < 0.1:
            break
    return rows[:, None] * kernel * columns


@each("shape", [(6, 6), (4, 9), (1, 1)])
@each("scale", [0.1, 1.0, 4.0])
def test_the_plan_is_that_of_a_slow_twin(shape, scale):
    cost = noise(1, 1, *shape).abs() * scale
    found = log_plan(cost, 0.1).exp()[0]
    wanted = slow_plan(cost[0].double().numpy(), 0.1)
    assert_close(found.double(), torch.from_numpy(wanted), rtol=1e-3, atol=1e-6)


@each("scale", [0.1, 1.0])
def test_rows_and_columns_of_a_plan_are_even(monkeypatch, scale):
    monkeypatch.setattr(alignmix, "STOP", 0.0)
    plan = 6 * log_plan(noise(2, 5, 6, 6).abs() * scale, 0.1).exp()
    for axis in (1, 2):
        assert_close(plan.sum(axis), torch.ones(5, 6), rtol=2e-3, atol=2e-3)


@each("scale", [0.1, 1.0, 10.0])
def test_rows_are_nearly_even_where_the_rounds_may_end(scale):
    """Prices of six rows that moved by less than 0.1 in all: by 0.17 of 0.1 each, as logarithms."""
    plan = 6 * log_plan(noise(2, 5, 6, 6).abs() * scale, 0.1).exp()
    assert_close(plan.sum(1), torch.ones(5, 6), rtol=1e-4, atol=1e-4)
    assert float(plan.sum(2).log().abs().mean()) < 0.1 / 6 / 0.1


def test_huge_costs_leave_weights():
    """Where all of a row is below what a float32 holds, its weights still sum to 1."""
    plan = log_plan(noise(2, 5, 6, 6).abs() * 1e5, 0.1)
    for axis in (1, 2):
        assert_close(plan.softmax(axis).sum(axis), torch.ones(5, 6))


def test_distances_are_those_of_places():
    own, partner = noise(0, 2, 5, 4), noise(1, 2, 5, 3)
    wanted = ((own[:, :, :, None] - partner[:, :, None]) ** 2).sum(1)
    assert_close(distances(own, partner), wanted)
    assert (distances(100 + own, 100 + own).diagonal(dim1=1, dim2=2) == 0).all()


@each("seed", SEEDS)
def test_equal_images_stay(seed):
    """Whoever is rearranged lands on itself."""
    net = convolved()
    nn.init.normal_(net.features[0].weight, std=5, generator=torch.Generator().manual_seed(0))
    same = images(1).expand(6, -1, -1, -1)
    step = step_of(same, SHARES, seed)
    told = made("alignmix", net, step, aligned=1.0)
    assert_close(told.losses, soft_losses(net(same), step.mixed_targets(step.own_share)))


@each("seed", SEEDS)
def test_a_partner_in_another_order_is_put_in_order(seed):
    """The pose is then that of one image, whatever the share."""

    class Placed(PooledNet):
        """Looks at where things are."""

        def forward_head(self, features):
            return features.flatten(1)[:, :CLASSES]

    net = Placed([nn.Identity()], 2, CLASSES)
    images = 10 * noise(0, 1, 2, 3, 4)
    order = generator(1, "order").permutation(12)
    pair = torch.cat([images, images.flatten(2)[:, :, order].unflatten(2, (3, 4))])
    step = step_of(pair, (0.3, 0.6), seed)
    told = made("alignmix", net, step, aligned=1.0)
    targets = step.mixed_targets(step.own_share)
    as_own, as_partner = (soft_losses(net(one), targets) for one in (pair, pair.flip(0)))
    assert any(torch.allclose(told.losses, wanted) for wanted in (as_own, as_partner))
    assert not torch.allclose(as_own, as_partner)


def slow_losses(net, step, of_partner: bool):
    """Place by place, with a plan that no gradient knows."""
    maps, found = net.features(step.images), []
    for i, j in enumerate(step.pairs.partner):
        own, partner = maps[i].flatten(1), maps[j].flatten(1)
        n, share = own.shape[1], float(step.share[i])
        places = [
            [float(((own[:, k] - partner[:, m]).detach() ** 2).sum()) for m in range(n)]
            for k in range(n)
        ]
        plan = log_plan(torch.tensor(places)[None], 0.1)[0].exp()
        mixed = []
        for place in range(n):
            if of_partner:
                weights = plan[place] / plan[place].sum()
                moved = sum(weights[m] * partner[:, m] for m in range(n))
                mixed.append((1 - share) * own[:, place] + share * moved)
            else:
                weights = plan[:, place] / plan[:, place].sum()
                moved = sum(weights[m] * own[:, m] for m in range(n))
                mixed.append((1 - share) * moved + share * partner[:, place])
        logits = net.forward_head(torch.stack(mixed, 1).view(1, *maps.shape[1:]))
        target = (1 - share) * step.targets[i] + share * step.targets[j]
        found.append(-(target * logits[0].log_softmax(0)).sum())
    return torch.stack(found)


class Cubed(PooledNet):
    """Its tail minds where the features are together, as a mean alone would not."""

    def forward_head(self, features):
        return super().forward_head(features**3)


def test_losses_and_slopes_are_those_of_a_slow_twin(monkeypatch):
    with borrowed_global_rng(0):
        net = Cubed([nn.Conv2d(2, 5, 3, stride=2)], 5, CLASSES)
        nn.init.normal_(net.features[0].weight, std=0.3)
    monkeypatch.setattr(alignmix, "STOP", 0.0)  # of each image by itself, so that none waits
    seen = []
    for of_partner in (True, False):
        twin = slow_losses(net, step_of(images(), SHARES), of_partner)
        twin.sum().backward()
        gradients = [weight.grad.clone() for weight in net.parameters()]
        net.zero_grad()
        for seed in SEEDS:
            told = made("alignmix", net, step_of(images(), SHARES, seed), aligned=1.0)
            if not torch.allclose(told.losses, twin, rtol=1e-3):
                continue
            seen.append(of_partner)
            told.losses.sum().backward()
            for weight, wanted in zip(net.parameters(), gradients, strict=True):
                assert_close(weight.grad, wanted, rtol=1e-2, atol=1e-3)
            net.zero_grad()
    assert len(seen) == len(SEEDS)
    assert 4 <= sum(seen) <= 16


@each("model", MODELS)
def test_the_other_batches_are_mixup(model):
    net = create_classifier(model, num_classes=CLASSES, shape=(2, 8, 12), seed=0).train()
    step = step_of(images(), SHARES)
    with borrowed_global_rng(4):
        told = made("alignmix", net, step, aligned=0.0)
    with borrowed_global_rng(4):
        mixup = made("manifold_mixup", net, step_of(images(), SHARES), stages=(0,))
    assert torch.equal(told.losses, mixup.losses)
    assert torch.equal(told.own_share, mixup.own_share)
    assert told.passes == (0, 0)


def test_a_coin_chooses_between_features_and_images():
    net = convolved()
    images_mixed = made("alignmix", net, step_of(images(), SHARES), aligned=0.0).losses
    drawn = [made("alignmix", net, step_of(images(), SHARES, seed)).losses for seed in range(40)]
    assert 10 <= sum(torch.equal(one, images_mixed) for one in drawn) <= 30


def test_a_class_token_is_mixed_as_it_is():
    net = create_classifier("vit_of_three_blocks", num_classes=CLASSES, shape=(2, 8, 12), seed=0)
    staged, step = stages(net.eval()), step_of(images(), SHARES)
    found = staged.forward_to(staged.count, step.images)
    mixed = alignmix._mixed(net, found, step, 0.1)
    assert mixed.shape == found.shape
    share = torch.tensor(SHARES)[:, None]
    theirs = found[step.pairs.partner]
    assert_close(mixed[:, 0], (1 - share) * found[:, 0] + share * theirs[:, 0])
    assert not torch.allclose(mixed, (1 - share[:, None]) * found + share[:, None] * theirs)


@each("kind", list(NETS))
def test_features_of_every_layout_keep_their_places(kind):
    """Without a share of the partner's they stay, unless they are what is rearranged."""
    net = net_of(kind).eval()
    staged, given = stages(net), noise(1, 4, 2, *NETS[kind][1])
    found = staged.forward_to(staged.count, given)
    mixed = [alignmix._mixed(net, found, step_of(given, 0.0, seed), 0.1) for seed in range(8)]
    assert {one.shape for one in mixed} == {found.shape}
    assert any(torch.equal(one, found) for one in mixed)


def test_the_plan_is_made_in_single_precision(monkeypatch):
    seen = []

    def spied(cost, eps):
        seen.append((cost.dtype, torch.is_autocast_enabled("cpu")))
        return log_plan(cost, eps)

    monkeypatch.setattr(alignmix, "log_plan", spied)
    net, step = convolved(), step_of(images(), SHARES)
    with torch.autocast("cpu", torch.bfloat16):
        told = made("alignmix", net, step, aligned=1.0)
    assert seen == [(torch.float32, False)]
    assert told.losses.dtype == torch.float32
    wanted = made("alignmix", net, step_of(images(), SHARES), aligned=1.0).losses
    assert_close(told.losses, wanted, rtol=0.1, atol=0.1)
