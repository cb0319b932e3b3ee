"""Manifold Mixup: what is blended, where, and that nothing else moves."""

from __future__ import annotations

import torch
import torch.nn as nn
from torch.testing import assert_close

from automix.core.seeding import borrowed_global_rng
from automix.masks.method_steps import soft_losses
from automix.masks.shapes import Constant
from automix.mixing.blending import blend
from automix.nets.create import create_classifier
from automix.nets.stages import stages
from automix.nets.zoo.pooled import PooledNet
from tests.automix.mixes.drawing import noise
from tests.automix.mixes.own_steps import CLASSES, MODELS, images, made, step_of
from tests.automix.nets.test_stages import NETS
from tests.automix.nets.test_stages import net_of as net_of_kind
from tests.cases import each

SHARES = (0.0, 0.2, 0.5, 0.7, 0.9, 1.0)
every_model = each("model", MODELS)


def net_of(model: str) -> nn.Module:
    net = create_classifier(model, num_classes=CLASSES, shape=(2, 8, 12), seed=0)
    with borrowed_global_rng(1):
        for weight in net.parameters():  # timm's heads begin near zero
            nn.init.normal_(weight, std=0.3)
    return net


def losses(net, share, seed=0, **settings):
    with borrowed_global_rng(4):
        return made("manifold_mixup", net, step_of(images(), share, seed), **settings).losses


@every_model
def test_at_the_images_it_is_mixup(model):
    net, step = net_of(model).train(), step_of(images(), SHARES)
    mixed = blend(step.images, step.pairs, Constant(step.share))
    with borrowed_global_rng(4):
        wanted = soft_losses(net(mixed), step.mixed_targets(step.own_share))
    assert torch.equal(losses(net, SHARES, stages=(0,)), wanted)


@every_model
@each("stage", [0, 1, 2, 3])
def test_without_a_partner_it_is_the_plain_step(model, stage):
    net, step = net_of(model).train(), step_of(images(), 0.0)
    with borrowed_global_rng(4):
        wanted = soft_losses(net(step.images), step.targets)
    assert torch.equal(losses(net, 0.0, stages=(stage,)), wanted)


@each("stage", [1, 2])
def test_a_tail_that_is_linear_mixes_logits(stage):
    """Two convolutions without anything between them, a mean, and a layer."""
    with borrowed_global_rng(0):
        layers = [nn.Conv2d(2, 4, 3), nn.Conv2d(4, 5, 2, stride=2)]
        net = PooledNet([layers[0], nn.ReLU(), layers[1]], 5, CLASSES)
    step = step_of(images(), SHARES)
    told = made("manifold_mixup", net, step, stages=(stage,))
    logits = net(step.images)
    own = 1 - torch.tensor(SHARES)[:, None]
    mixed = own * logits + (1 - own) * logits[step.pairs.partner]
    assert_close(told.losses, soft_losses(mixed, step.mixed_targets(own[:, 0])))
    assert_close(told.own_share, own[:, 0])
    assert told.passes == (0, 0)
    assert not torch.allclose(told.losses, losses(net, SHARES, stages=(0,)))


@every_model
@each("stage", [1, 2, 3])
def test_slopes_are_those_of_one_image_after_another(model, stage):
    net, step = net_of(model).eval(), step_of(images(), SHARES)
    losses(net, SHARES, stages=(stage,)).sum().backward()
    found = [weight.grad.clone() for weight in net.parameters()]
    net.zero_grad()
    staged = stages(net)
    cut = min(stage, staged.count)
    for i, partner in enumerate(step.pairs.partner):
        own, other = (staged.forward_to(cut, step.images[j : j + 1]) for j in (i, partner))
        logits = staged.forward_from(cut, (1 - SHARES[i]) * own + SHARES[i] * other)
        target = (1 - SHARES[i]) * step.targets[i] + SHARES[i] * step.targets[partner]
        (-(target * logits[0].log_softmax(0)).sum()).backward()
    for slope, weight in zip(found, net.parameters(), strict=True):
        assert_close(slope, weight.grad, rtol=1e-3, atol=1e-4)


@each("kind", list(NETS))
def test_every_layout_is_mixed_image_by_image(kind):
    """The first image has no share of its partner, the second nothing else, wherever it is."""
    net = net_of_kind(kind).eval()
    for stage in range(stages(net).count + 1):
        step = step_of(noise(1, 2, 2, *NETS[kind][1]), (0.0, 1.0))
        told = made("manifold_mixup", net, step, stages=(stage,))
        shown = step.images[[0, 0]]
        assert_close(told.losses, soft_losses(net(shown), step.targets[[0, 0]]))


def test_batch_norm_sees_mixed_features_behind_the_stage_only():
    plain, mixing = (net_of("small_cnn_w8").train() for _ in range(2))
    plain(images())
    losses(mixing, 0.5, stages=(1,))
    same = [
        torch.equal(one.running_var, other.running_var)
        for one, other in zip(plain.features, mixing.features, strict=True)
        if isinstance(one, nn.BatchNorm2d)
    ]
    assert same == [True, False, False]
    assert [int(m.num_batches_tracked) for m in mixing.modules() if hasattr(m, "running_var")] == [
        1,
        1,
        1,
    ]


def test_stages_are_drawn_alike():
    net = net_of("small_cnn_w8").eval()
    each = [losses(net, 0.5, stages=(stage,)) for stage in range(4)]
    drawn = [losses(net, 0.5, seed) for seed in range(90)]
    counts = [sum(torch.equal(one, told) for told in drawn) for one in each]
    assert sum(counts) == 90
    assert min(counts[:3]) > 15
    assert counts[3] == 0


def test_a_net_of_fewer_stages_gives_its_last():
    net = net_of("small_cnn_w8").eval()
    assert torch.equal(losses(net, 0.5, stages=(9,)), losses(net, 0.5, stages=(3,)))


def test_half_precision():
    net = net_of("small_cnn_w8").eval()
    with torch.autocast("cpu", torch.bfloat16):
        told = losses(net, SHARES, stages=(2,))
    assert told.dtype == torch.float32
    assert_close(told, losses(net, SHARES, stages=(2,)), rtol=0.05, atol=0.05)
