"""Nets by timm's names, built from a seed."""

from __future__ import annotations

import pytest
import timm
import torch

from automix.core.errors import ConfigError
from automix.nets.create import SMALL_NETS, create_classifier
from tests.cases import each
from tests.contract import global_states


@each("name, weights", [("small_cnn_w8", 6418), ("small_cnn_w16", 24346), ("small_cnn_w32", 94762)])
@each("shape", [(3, 8, 8), (3, 4, 7), (3, 33, 20)])
def test_small_nets_are_timm_models_for_any_small_size(name, weights, shape):
    assert timm.is_model(name)
    net = create_classifier(name, num_classes=10, shape=shape, seed=0)
    assert sum(p.numel() for p in net.parameters()) == weights
    assert net(torch.zeros(2, *shape)).shape == (2, 10)


def test_the_small_nets_are_the_ones_named():
    assert set(SMALL_NETS) == {name for name in timm.list_models() if name.startswith("small_cnn")}


def test_a_seed_fixes_the_weights_and_leaves_the_global_generators_alone():
    before = global_states()
    one, same, other = (
        create_classifier("small_cnn_w8", num_classes=3, shape=(1, 8, 8), seed=seed)
        for seed in (1, 1, 2)
    )
    assert global_states() == before
    for a, b, c in zip(one.parameters(), same.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a.dim() == 1 or not torch.equal(a, c)


@each("name", ["test_vit", "test_resnet"])
def test_nets_of_fixed_and_of_any_size_take_the_images_of_the_task(name):
    net = create_classifier(name, num_classes=3, shape=(1, 32, 48), seed=0)
    assert net(torch.zeros(2, 1, 32, 48)).shape == (2, 3)
    if name == "test_vit":
        assert net.patch_embed.img_size == (32, 48)


def test_an_unknown_net_is_told_its_neighbour():
    with pytest.raises(ConfigError, match=r"'resnet18x' is not a timm model\. Did you mean"):
        create_classifier("resnet18x", num_classes=3, shape=(3, 8, 8), seed=0)
