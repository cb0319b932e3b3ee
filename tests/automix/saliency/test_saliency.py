"""Saliency maps: what they are, and what computing them leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn as nn
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from automix.core.errors import ConfigError
from automix.core.seeding import generator
from automix.mixing.actions import MixAction
from automix.mixing.batch import mix_batch
from automix.nets.create import create_classifier
from automix.nets.stacking import frozen_running_statistics
from automix.saliency import SALIENCY, enlarged, normalised, only_in_training
from tests.automix.saliency.planted import models_for, vit
from tests.cases import each
from tests.references import saliency as reference
from tests.strategies import SEEDS, SIZES

ALONE = [entry.name for entry in SALIENCY.entries() if not only_in_training(entry.name)]
every_provider = each("name", list(SALIENCY))
CLASSES = 3


def noise(seed, *shape):
    return torch.from_numpy(generator(seed, "noise").random(shape, dtype=np.float32))


def small_net(channels=1, seed=0):
    return create_classifier("small_cnn_w8", num_classes=CLASSES, shape=(channels, 8, 8), seed=seed)


def targets_of(b):
    return torch.eye(CLASSES)[torch.arange(b) % CLASSES]


def fitting(name, channels=1):
    """A net that a provider can ask."""
    looks = "vit_digits" in models_for(name)
    return (vit(in_chans=channels) if looks else small_net(channels)).eval()


def maps_of(name, images, net=None):
    channels = images.shape[1]
    return SALIENCY[name](images, targets_of(len(images)), net or fitting(name, channels))


def assert_is_a_map(maps, b, size):
    assert maps.shape == (b, *size)
    assert maps.dtype == torch.float32
    assert not maps.requires_grad
    assert bool((maps >= 0).all())
    assert_close(maps.sum((1, 2)), torch.ones(b), atol=1e-4, rtol=0)


@every_provider
@given(
    seed=SEEDS,
    b=st.sampled_from([1, 2, 5]),
    channels=st.sampled_from([1, 3, 5]),
    size=SIZES.filter(lambda size: min(size) >= 4),
    scale=st.sampled_from([1.0, 1e-6, 1e6]),
)
def test_a_map_is_non_negative_and_sums_to_one(name, seed, b, channels, size, scale):
    images = noise(seed, b, channels, *size) * scale
    before = images.clone()
    assert_is_a_map(maps_of(name, images), b, size)
    assert torch.equal(images, before)
    assert not images.requires_grad


@every_provider
def test_each_image_has_the_map_that_it_has_alone(name):
    images, net = noise(0, 4, 1, 8, 8), fitting(name)
    targets = targets_of(4)
    together = SALIENCY[name](images, targets, net)
    for i in range(4):
        alone = SALIENCY[name](images[i : i + 1], targets[i : i + 1], net)
        assert_close(together[i], alone[0], atol=1e-6, rtol=1e-3)
    assert not torch.allclose(together[0], together[1], rtol=0.05)


@every_provider
def test_bfloat16_images_get_a_float32_map(name):
    images, net = noise(0, 2, 1, 8, 8).bfloat16(), fitting(name).bfloat16()
    assert_is_a_map(SALIENCY[name](images, targets_of(2).bfloat16(), net), 2, (8, 8))


@each("value", [0.0, 1.0, 0.3, -2.5])
@each("size", [(8, 8), (31, 31), (7, 12)])
def test_a_constant_image_has_a_uniform_spectral_map(value, size):
    maps = maps_of("spectral", torch.full((2, 3, *size), value), nn.Identity())
    # Rounding in the transform of odd sizes is all that differs.
    assert_close(maps, torch.full_like(maps, 1 / (size[0] * size[1])), atol=0, rtol=0.02)


def test_a_net_that_does_not_look_has_a_uniform_gradient_map():
    class Blind(nn.Module):
        def forward(self, images):
            return images.sum((1, 2, 3))[:, None] * torch.zeros(CLASSES)

    maps = maps_of("gradient", noise(0, 2, 1, 5, 6), Blind())
    assert torch.equal(maps, torch.full((2, 5, 6), 1 / 30))


@each("bad", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_none_do_not_spread(bad):
    raw = noise(0, 2, 3, 4)
    raw[0, 1, 2] = bad
    maps = normalised(raw)
    assert_is_a_map(maps, 2, (3, 4))
    assert float(maps[0, 1, 2]) == 0.0
    assert_close(maps[1], raw[1] / raw[1].sum())
    assert torch.equal(normalised(torch.full((1, 2, 2), bad)), torch.full((1, 2, 2), 0.25))


@each("scale", [1e-44, 1e-38, 1e-33, 1e-20, 1.0, 1e20, 1e37])
def test_maps_of_any_magnitude_sum_to_one(scale):
    """A sure classifier has slopes near the smallest number; a diverging one near the largest."""
    raw = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]], dtype=torch.float64) * scale
    maps = normalised(raw.float())
    assert_is_a_map(maps, 1, (2, 2))
    assert bool((maps.flatten().diff() >= 0).all())


def test_a_classifier_of_nan_gives_a_uniform_map():
    net = small_net().eval()
    with torch.no_grad():
        net.fc.weight.fill_(float("nan"))
    assert torch.equal(
        maps_of("gradient", noise(0, 2, 1, 8, 8), net), torch.full((2, 8, 8), 1 / 64)
    )


def test_spectral_is_its_slow_twin():
    for seed, shape in ((0, (3, 6, 5)), (1, (1, 4, 9))):
        image = noise(seed, *shape)
        wanted = torch.tensor(reference.spectral_residual(image.double().tolist()))
        got = maps_of("spectral", image[None], nn.Identity())[0]
        assert_close(got, wanted, atol=1e-5, rtol=1e-3)


def test_spectral_finds_the_odd_spot_in_a_regular_picture():
    y, x = torch.meshgrid(torch.arange(32), torch.arange(48), indexing="ij")
    picture = 0.5 + 0.4 * torch.sin(y * torch.pi / 4) * torch.cos(x * torch.pi / 4)
    picture[20:23, 9:12] = 1.5
    peak = int(maps_of("spectral", picture[None, None], nn.Identity()).argmax())
    assert abs(peak // 48 - 21) <= 2
    assert abs(peak % 48 - 10) <= 2


def test_spectral_of_a_large_image_has_the_size_of_the_image():
    maps = maps_of("spectral", noise(0, 1, 1, 140, 20), nn.Identity())
    assert_is_a_map(maps, 1, (140, 20))


def test_gradient_is_the_slope_that_finite_differences_find():
    channels, height, width = 2, 3, 4
    net = nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, CLASSES))
    weight = generator(0).normal(0, 0.5, (CLASSES, channels * height * width))
    with torch.no_grad():
        net[1].weight.copy_(torch.from_numpy(weight))
        net[1].bias.zero_()
    images = noise(1, 3, channels, height, width)
    targets = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0.2, 0.3, 0.5]])
    maps = SALIENCY["gradient"](images, targets, net)
    for i in range(3):
        wanted = reference.gradient_saliency(
            images[i].double().numpy(), targets[i].double().numpy(), lambda x: weight @ x.ravel()
        )
        assert_close(maps[i].double(), torch.from_numpy(wanted), atol=1e-5, rtol=1e-3)


@each(
    "answer, told",
    [
        (lambda images: {"logits": small_net()(images)}, "gives dict, wanted logits"),
        (lambda images: (small_net()(images),), "gives tuple, wanted logits"),
        (lambda images: small_net()(images)[:, :2], r"gives \(2, 2\), wanted logits \(2, 3\)"),
        (lambda images: None, "gives NoneType"),
    ],
)
def test_a_classifier_that_gives_no_logits_is_told_what_is_wanted(answer, told):
    with pytest.raises(ConfigError, match=told) as error:
        SALIENCY["gradient"](noise(0, 2, 1, 8, 8), targets_of(2), answer)
    assert "model(images).logits" in error.value.hint


@each("name", ["cam", "gradcam"])
def test_a_net_in_a_parallel_module_is_looked_into(name):
    images, net = noise(0, 2, 1, 8, 8), small_net().requires_grad_()
    wanted = SALIENCY[name](images, targets_of(2), net)
    assert torch.equal(SALIENCY[name](images, targets_of(2), nn.DataParallel(net)), wanted)


def test_gradient_works_where_gradients_are_off_and_leaves_none_behind():
    net, images = small_net().eval(), noise(0, 2, 1, 8, 8)
    wanted = maps_of("gradient", images, net)
    with torch.no_grad():
        assert torch.equal(maps_of("gradient", images, net), wanted)
    assert all(p.grad is None for p in net.parameters())


@each("small, size", [((1, 1), (5, 3)), ((2, 3), (7, 7)), ((3, 2), (31, 8))])
def test_a_map_is_enlarged_bilinearly(small, size):
    maps = noise(0, 2, *small)
    for found, one in zip(enlarged(maps, size), maps, strict=True):
        assert_close(found, torch.tensor(reference.bilinear(one.tolist(), *size)))
    assert torch.equal(enlarged(maps, small), maps)


def buffers(net):
    return {name: value.clone() for name, value in net.named_buffers()}


def assert_equal_buffers(net, before):
    assert before
    for name, value in net.named_buffers():
        assert torch.equal(value, before[name]), f"{name} moved"


def test_running_statistics_stay_bit_equal_through_a_frozen_pass():
    net = small_net().train()
    net(noise(0, 4, 1, 8, 8))
    before, images = buffers(net), noise(1, 4, 1, 8, 8) + 3
    with frozen_running_statistics(net):
        frozen = maps_of("gradient", images, net)
    assert_equal_buffers(net, before)
    # Frozen statistics are recorded no more, but the batch's own are still what is used.
    assert torch.equal(frozen, maps_of("gradient", images, net))
    assert not torch.equal(frozen, maps_of("gradient", images, net.eval()))
    with pytest.raises(AssertionError, match="moved"):
        assert_equal_buffers(net, before)


def test_frozen_statistics_are_recorded_again_afterwards_even_after_a_failure():
    net = small_net().train()
    with pytest.raises(RuntimeError, match="inside"), frozen_running_statistics(net):
        raise RuntimeError("inside")
    net(noise(0, 4, 1, 8, 8))
    assert int(net.features[1].num_batches_tracked) == 1


def test_a_norm_that_never_recorded_does_not_start_to():
    norm = nn.BatchNorm2d(2, track_running_stats=False)
    with frozen_running_statistics(norm):
        assert not norm.track_running_stats
    assert not norm.track_running_stats


@each("name", ALONE)
def test_mixing_a_batch_for_a_training_loop_leaves_the_classifier_alone(name):
    """Not a statistic, not a gradient, not a draw of its dropout in trunk and head."""
    model = models_for(name)[1]
    net = create_classifier(model, num_classes=CLASSES, shape=(1, 8, 8), seed=0).train()
    before, draws = buffers(net), torch.get_rng_state()
    mix_batch(
        noise(0, 4, 1, 8, 8),
        torch.arange(4) % CLASSES,
        MixAction("rmix", 0.5, name),
        num_classes=CLASSES,
        rng=generator(0),
        classifier=net,
    )
    assert_equal_buffers(net, before)
    assert torch.equal(torch.get_rng_state(), draws)
    assert net.training
    assert all(p.grad is None for p in net.parameters())
