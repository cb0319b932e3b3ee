"""Class activation maps and Grad-CAM, against loops and against each other."""

from __future__ import annotations

import pytest
import torch
import torch.nn as nn
from torch.testing import assert_close

from automix.core.errors import ConfigError
from automix.saliency import SALIENCY
from tests.automix.saliency.planted import CLASSES, SIZE, noise, pooled, token_nets
from tests.automix.training.helpers import Watch
from tests.cases import each
from tests.references import saliency as reference

SOFT = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.3, 0.7], [0.2, 0.5, 0.3]])
class_maps = each("name", ["cam", "gradcam"])


def by_hand(net, image, target):
    """The class map of an image of 2 x 5 x 7, [y][x], before anything is done to it."""
    found = net.features(image[None])[0].tolist()
    return reference.class_map(found, net.fc.weight.tolist(), target.tolist())


def test_cam_is_its_slow_twin():
    net, images = pooled(), noise(0, 3, 2, 5, 7)
    maps = SALIENCY["cam"](images, SOFT, net)
    for i in range(3):
        grid = reference.bilinear(by_hand(net, images[i], SOFT[i]), 5, 7)
        least = min(map(min, grid))
        wanted = reference.shares([[value - least for value in line] for line in grid])
        assert_close(maps[i], torch.tensor(wanted), atol=1e-6, rtol=1e-4)


def test_gradcam_is_its_slow_twin():
    net, images = pooled(), noise(0, 3, 2, 5, 7)
    maps = SALIENCY["gradcam"](images, SOFT, net)
    for i in range(3):
        grid = by_hand(net, images[i], SOFT[i])
        kept = [[max(value, 0.0) for value in line] for line in grid]
        assert 0 < sum(value > 0 for line in kept for value in line) < 12
        wanted = reference.shares(reference.bilinear(kept, 5, 7))
        assert_close(maps[i], torch.tensor(wanted), atol=1e-6, rtol=1e-4)


def test_where_nothing_speaks_for_the_class_gradcam_is_uniform():
    net = pooled()
    with torch.no_grad():
        net.fc.weight.fill_(-1.0)
        net.features[0].weight.fill_(1.0)
        net.features[0].bias.zero_()
    maps = SALIENCY["gradcam"](noise(0, 2, 2, 5, 7).abs(), SOFT[:2], net)
    assert torch.equal(maps, torch.full((2, 5, 7), 1 / 35))


@class_maps
def test_the_map_is_that_of_the_image_s_own_class(name):
    net, images = pooled(), noise(0, 1, 2, 5, 7)
    maps = [SALIENCY[name](images, one[None], net) for one in torch.eye(CLASSES)]
    assert not torch.allclose(maps[0], maps[1], rtol=0.05)


@class_maps
def test_one_forward_pass_and_nothing_backward_through_the_trunk(name):
    assert SALIENCY.info(name).passes == (1, 0)
    with Watch() as watch:
        SALIENCY[name](noise(0, 3, 2, 5, 7), SOFT, pooled())
    assert len(watch.of("convolution")) == 1
    assert not watch.of("convolution_backward")
    with Watch() as watch:  # what does go backward through the trunk is seen
        SALIENCY["gradient"](noise(0, 3, 2, 5, 7), SOFT, pooled())
    assert len(watch.of("convolution_backward")) == 1


@class_maps
@each("kind", list(token_nets()))
def test_transformers_have_class_maps_too(name, kind):
    net, images = token_nets()[kind].eval(), noise(0, 2, 1, *SIZE)
    maps = SALIENCY[name](images, SOFT[:2], net)
    assert maps.shape == (2, *SIZE)
    assert_close(maps.sum((1, 2)), torch.ones(2))
    assert not torch.allclose(maps, torch.full_like(maps, 1 / 96), rtol=0.05)


@class_maps
def test_a_mere_function_is_refused(name):
    net = pooled()
    with pytest.raises(ConfigError, match="is a function of the images") as error:
        SALIENCY[name](noise(0, 3, 2, 5, 7), SOFT, lambda images: net(images))
    assert "gradient" in error.value.hint


@class_maps
def test_a_net_that_hides_its_features_is_refused(name):
    net = nn.Sequential(nn.Flatten(), nn.Linear(70, CLASSES))
    with pytest.raises(ConfigError, match="Sequential does not show its last feature map"):
        SALIENCY[name](noise(0, 3, 2, 5, 7), SOFT, net)
