"""Nets of every kind, left at a stage and entered there again."""

from __future__ import annotations

import pytest
import timm
import torch
import torch.nn as nn
from timm.models.convnext import ConvNeXt
from timm.models.deit import VisionTransformerDistilled
from timm.models.pvt_v2 import PyramidVisionTransformerV2
from timm.models.resnet import BasicBlock, ResNet
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer

import automix.nets.zoo  # noqa: F401 (registers them with timm)
from automix.core.errors import ConfigError
from automix.core.seeding import borrowed_global_rng
from automix.mixing.actions import MixAction
from automix.nets.feature_maps import as_map
from automix.nets.stacking import GroupedStack, frozen_running_statistics
from automix.nets.stages import Staged, has_stages, stages
from automix.training.requirements import check_backbone
from tests import tiny  # noqa: F401 (registers nets)
from tests.automix.saliency.planted import Dropping, noise
from tests.cases import each

CLASSES = 3
DROPS = {"drop_rate": 0.3, "drop_path_rate": 0.5}
VIT = {
    **{"patch_size": 4, "embed_dim": 8, "num_heads": 2, "proj_drop_rate": 0.2},
    **{"in_chans": 2, "num_classes": CLASSES, **DROPS},
}


def _levels(**more):
    return {"in_chans": 2, "num_classes": CLASSES, **DROPS, **more}


NETS = {
    # Name: (how to make it, size, (h', w') of the map of each stage).
    "small_cnn": ("small_cnn_w8", (12, 20), [(12, 20), (6, 10), (3, 5)]),
    "preact_resnet": ("preact_resnet18", (8, 16), [(8, 16), (4, 8), (2, 4), (1, 2)]),
    "preact_resnet_s2": ("preact_resnet18_s2", (16, 24), [(8, 12), (4, 6), (2, 3), (1, 2)]),
    "wide_resnet": ("wide_resnet16_8", (4, 8), [(4, 8), (2, 4), (1, 2)]),
    "resnext": ("resnext29_4x24d", (4, 8), [(4, 8), (2, 4), (1, 2)]),
    "resnet": (
        lambda: ResNet(BasicBlock, (1, 1, 1, 1), **_levels(channels=(8, 8, 8, 8))),
        (32, 64),
        [(8, 16), (4, 8), (2, 4), (1, 2)],
    ),
    "convnext": (
        lambda: ConvNeXt(depths=(1, 1, 2, 1), dims=(8, 8, 16, 16), **_levels()),
        (32, 64),
        [(8, 16), (4, 8), (2, 4), (1, 2)],
    ),
    "swin": (
        lambda: SwinTransformer(
            img_size=(32, 16),
            patch_size=2,
            window_size=2,
            embed_dim=8,
            depths=(2, 1, 2),
            num_heads=(1, 2, 2),
            **_levels(),
        ),
        (32, 16),
        [(16, 8), (8, 4), (4, 2)],
    ),
    "pvt": (
        lambda: PyramidVisionTransformerV2(
            depths=(1, 2, 1, 1),
            embed_dims=(8, 8, 16, 16),
            num_heads=(1, 1, 2, 2),
            sr_ratios=(4, 2, 1, 1),
            **_levels(),
        ),
        (32, 64),
        [(8, 16), (4, 8), (2, 4), (1, 2)],
    ),
    "vit": (lambda: VisionTransformer((8, 12), depth=4, **VIT), (8, 12), [(2, 3)] * 3),
    "vit of one block": (lambda: VisionTransformer((8, 12), depth=1, **VIT), (8, 12), [(2, 3)]),
    "vit with registers, mean": (
        lambda: VisionTransformer((8, 12), depth=5, reg_tokens=2, global_pool="avg", **VIT),
        (8, 12),
        [(2, 3)] * 3,
    ),
    "vit without class token": (
        lambda: VisionTransformer((8, 12), depth=2, class_token=False, global_pool="avg", **VIT),
        (8, 12),
        [(2, 3)] * 2,
    ),
    "deit of two tokens": (
        lambda: VisionTransformerDistilled((8, 12), depth=3, **VIT),
        (8, 12),
        [(2, 3)] * 2,
    ),
    "drop in the head": (
        lambda: Dropping([nn.Conv2d(2, 4, 3, stride=2), nn.Dropout(0.5)], 4, CLASSES),
        (7, 9),
        [(3, 4)],
    ),
}
kinds = each("kind", list(NETS))


def net_of(kind: str) -> nn.Module:
    """Weights are drawn anew, as heads and positions of some nets begin with zeros."""
    make = NETS[kind][0]
    with borrowed_global_rng(0):
        if isinstance(make, str):
            return timm.create_model(make, num_classes=CLASSES, in_chans=2)
        net = make()
        for weight in net.parameters():
            nn.init.normal_(weight, std=0.3)
    return net


def images_of(kind: str) -> torch.Tensor:
    return noise(1, 3, 2, *NETS[kind][1])


@kinds
@each("training", [False, True])
def test_every_stage_leads_to_the_logits_of_the_net(kind, training):
    net, images = net_of(kind).train(training), images_of(kind)
    staged = stages(net)
    with frozen_running_statistics(net), borrowed_global_rng(7):
        whole = net(images)
    for stage in range(staged.count + 1):
        with frozen_running_statistics(net), borrowed_global_rng(7):
            halfway = staged.forward_to(stage, images)
            assert torch.equal(staged.forward_from(stage, halfway), whole)
    assert torch.equal(staged.forward_to(0, images), images)
    assert whole.std() > 1e-3


@kinds
def test_each_stage_is_a_map_of_the_image(kind):
    net, images = net_of(kind).eval(), images_of(kind)
    staged = stages(net)
    sizes = []
    for stage in range(1, staged.count + 1):
        found = staged.forward_to(stage, images)
        shown, back = as_map(net, found, images)
        assert torch.equal(back(shown), found)
        sizes.append(tuple(shown.shape[2:]))
    assert sizes == NETS[kind][2]


@kinds
def test_the_last_stage_moves_the_logits_at_every_place(kind):
    """Where only a class token is read, the other tokens must still be on their way to it."""
    net, images = net_of(kind).eval(), images_of(kind)
    staged = stages(net)
    shown, back = as_map(net, staged.forward_to(staged.count, images).detach(), images)
    shown = shown.clone().requires_grad_()
    staged.forward_from(staged.count, back(shown))[:, 0].sum().backward()
    assert (shown.grad.abs().amax((0, 1)) > 0).all()


@each("kind", ["small_cnn", "vit", "resnet"])
def test_gradients_go_through_a_stage(kind):
    net, images = net_of(kind).eval(), images_of(kind)
    staged = stages(net)
    net(images).square().sum().backward()
    whole = [weight.grad.clone() for weight in net.parameters() if weight.grad is not None]
    net.zero_grad()
    found, back = as_map(net, staged.forward_to(1, images), images)
    staged.forward_from(1, back(found)).square().sum().backward()
    parts = [weight.grad for weight in net.parameters() if weight.grad is not None]
    assert len(parts) == len(whole)
    for part, wanted in zip(parts, whole, strict=True):
        assert torch.equal(part, wanted)


def test_statistics_move_once():
    alone, halved = (net_of("small_cnn").train() for _ in range(2))
    alone(images_of("small_cnn"))
    staged = stages(halved)
    staged.forward_from(2, staged.forward_to(2, images_of("small_cnn")))
    for one, other in zip(alone.buffers(), halved.buffers(), strict=True):
        assert torch.equal(one, other)


def test_a_member_of_a_stack_is_cut_as_it_is_alone():
    nets = [net_of("small_cnn").train() for _ in range(3)]
    for number, net in enumerate(nets):
        nn.init.constant_(net.fc.bias, number)
    stack, images = GroupedStack(nets), images_of("small_cnn")

    def question(net, given):
        staged = stages(net)
        assert has_stages(net)
        return tuple(
            staged.forward_from(stage, staged.forward_to(stage, given))
            for stage in range(staged.count + 1)
        )

    answers = stack.ask([1], question, images[:, None], trains=True)
    assert len(answers) == 4
    for answer in answers:
        torch.testing.assert_close(answer[:, 0], nets[1](images))


def test_stages_of_a_vit_are_spread_over_its_blocks():
    ran: list[int] = []
    net = VisionTransformer((8, 12), depth=12, **VIT).eval()
    for number, block in enumerate(net.blocks):
        block.register_forward_pre_hook(lambda module, given, number=number: ran.append(number))
    staged, behind = stages(net), []
    for stage in range(staged.count + 1):
        ran.clear()
        staged.forward_to(stage, images_of("vit"))
        behind.append(len(ran))
    assert behind == [0, 4, 7, 11]


class OfItsOwn(VisionTransformer):
    def forward_features(self, x):
        return super().forward_features(x + 1)


@each("net", [nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), OfItsOwn((8, 12), depth=1, **VIT)])
def test_other_nets_are_not_cut(net):
    assert not has_stages(net)
    with pytest.raises(ConfigError, match=f"{type(net).__name__} cannot be cut into stages"):
        stages(net)


def test_a_training_is_told_before_it_begins():
    with pytest.raises(ConfigError, match="mum needs the stages of the net") as error:
        check_backbone(MixAction("mum", 0.5), "area", "dropout_cnn_for_tests", 10, (1, 8, 8))
    assert "small_cnn_w8" in error.value.hint
    check_backbone(MixAction("mum", 0.5), "area", "small_cnn_w8", 10, (1, 8, 8))


def test_hand_made_stages():
    staged = Staged([lambda x: x + 1, lambda x: 2 * x, lambda x: -x], [0, 1, 2])
    assert staged.count == 2
    assert [float(staged.forward_to(i, torch.tensor(3.0))) for i in range(3)] == [3, 4, 8]
    assert [float(staged.forward_from(i, torch.tensor(3.0))) for i in range(3)] == [-8, -6, -3]
