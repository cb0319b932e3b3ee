"""The last feature map of every layout, and the logits that follow from it."""

from __future__ import annotations

import pytest
import torch
import torch.nn as nn
from torch.testing import assert_close

from automix.core.errors import ConfigError
from automix.nets.feature_maps import FeatureNet, features, halves, scored
from automix.nets.zoo.pooled import PooledNet
from tests.automix.saliency.planted import CLASSES, SIZE, noise, pooled, token_nets
from tests.cases import each

kinds = each("kind", list(token_nets()))
ONE_BLOCK = ["class token", "two class tokens"]


@kinds
@each("training", [True, False])
def test_the_logits_are_those_of_the_net(kind, training):
    net, images = token_nets()[kind].train(training), noise(0, 4, 1, *SIZE)
    found, logits = halves(net, images)
    assert found.shape == (4, 8, 2, 3)
    assert_close(logits, net(images))
    assert torch.is_grad_enabled()


@each("kind", ONE_BLOCK)
def test_places_of_the_map_are_places_of_the_image(kind):
    """What the only block is given are the patches themselves."""
    net, images = token_nets()[kind].eval(), noise(0, 1, 1, *SIZE)
    before = features(net, images)[0]
    images[:, :, 4:, 8:] += 1  # the patch in row 1 and column 2
    moved = (features(net, images)[0] - before).abs().amax((0, 1)) > 1e-3
    assert moved.tolist() == [[False, False, False], [False, False, True]]


def test_channels_last_are_brought_to_the_front():
    net, images = token_nets()["channels last"].eval(), noise(0, 2, 1, *SIZE)
    wanted = net.forward_features(images)
    assert_close(features(net, images)[0], wanted.permute(0, 3, 1, 2))


def test_tokens_without_a_place_are_left_out():
    net, images = token_nets()["mean of tokens"].eval(), noise(0, 2, 1, *SIZE)
    tokens = net.forward_features(images)
    assert tokens.shape == (2, 7, 8)
    assert_close(features(net, images)[0].flatten(2), tokens[:, 1:].transpose(1, 2))


@kinds
def test_slopes_are_what_finite_differences_of_the_score_find(kind):
    """Moving the map at a place, in the net itself, moves the score by the slope."""
    net, images = token_nets()[kind].double().eval(), noise(0, 2, 1, *SIZE).double()
    targets = torch.tensor([[1.0, 0.0, 0.0], [0.2, 0.5, 0.3]], dtype=torch.float64)
    _, gradients = scored(net, images, targets)
    for y, x in ((0, 0), (0, 2), (1, 0), (1, 1)):
        step = torch.zeros_like(gradients)
        step[:, :, y, x] = 1e-3 * gradients[:, :, y, x].sign()
        towards = [_score(net, images, targets, sign * step) for sign in (1, -1)]
        found = float((gradients * step).sum())
        assert found == pytest.approx(float(towards[0] - towards[1]) / 2, rel=1e-3)
        assert found > 1e-6


def _score(net, images, targets, moved):
    """The score where the map is moved by (b, c, 2, 3)."""
    tokens = moved.flatten(2).transpose(1, 2)

    def patched(module, inputs, outputs=None):
        given = inputs[0] if outputs is None else outputs
        if given.dim() == 4:
            return given + moved.permute(0, 2, 3, 1)
        return torch.cat([given[:, :-6], given[:, -6:] + tokens], 1)

    if getattr(net, "global_pool", "") == "token":
        handle = net.blocks[-1].register_forward_pre_hook(lambda m, i: (patched(m, i), *i[1:]))
    else:
        handle = net.norm.register_forward_hook(patched)
    with torch.no_grad():
        score = (net(images) * targets).sum()
    handle.remove()
    return score


def test_a_head_that_begins_in_place_leaves_the_map_alone():
    class InPlace(PooledNet):
        def forward_head(self, features):
            return super().forward_head(features.mul_(2))

    net, images = InPlace([nn.Conv2d(2, 5, 1)], 5, CLASSES), noise(0, 2, 2, 4, 4)
    found, gradients = scored(net, images, torch.eye(CLASSES)[:2])
    assert_close(found, net.features(images))
    assert_close(gradients[0, :, 0, 0], 2 * net.fc.weight[0] / 16)


def test_a_net_as_something_to_look_at():
    net, images = pooled(), noise(0, 2, 2, 5, 7)
    looked, targets = FeatureNet(net), torch.eye(CLASSES)[:2]
    assert torch.equal(looked(images), net(images))
    assert torch.equal(looked.features(images), net.features(images))
    found, gradients = looked.scored(images, targets)
    assert torch.equal(found, net.features(images))
    assert_close(gradients, (net.fc.weight[:2] / 12)[:, :, None, None].expand(-1, -1, 3, 4))


def test_a_class_token_without_blocks_is_refused():
    net = pooled()
    del net.global_pool
    net.global_pool = "token"
    with pytest.raises(ConfigError, match="does not show its blocks"):
        halves(net, noise(0, 1, 2, 4, 4))


@each("shape, message", [((2, 7, 4), "7 tokens of Odd make no grid"), ((2, 4), r"\(2, 4\)")])
def test_features_that_are_no_map_are_refused(shape, message):
    class Odd(nn.Module):
        def forward_features(self, images):
            return torch.zeros(shape)

        def forward_head(self, found):
            return found

    with pytest.raises(ConfigError, match=message):
        halves(Odd(), noise(0, 2, 1, 8, 8))
