"""Providers that read attention: what they add to the maps, and whom they refuse."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from automix.core.errors import ConfigError
from automix.mixing.actions import MixAction
from automix.nets.attention import attended, spoken_for
from automix.saliency import SALIENCY, enlarged
from automix.training.requirements import check_backbone
from tests.automix.saliency.planted import CLASSES, noise, pooled, vit
from tests.automix.training.helpers import Watch
from tests.cases import each

SOFT = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.3, 0.7], [0.2, 0.5, 0.3]])
MAPS = {
    "attention_cls": lambda net, images: attended(net, images, "class")[1],
    "attention_mean": lambda net, images: attended(net, images, "mean")[1],
    "getam": lambda net, images: spoken_for(net, images, SOFT)[0],
}
every_map = each("name", list(MAPS))


@every_map
def test_a_map_is_that_of_attention_enlarged_to_the_image(name):
    net, images = vit().eval(), noise(0, 3, 1, 8, 12)
    with torch.no_grad():
        small = MAPS[name](net, images)
    assert small.shape == (3, 4, 6)
    wanted = enlarged(small, (8, 12))
    maps = SALIENCY[name](images, SOFT, net)
    assert_close(maps, wanted / wanted.sum((1, 2), keepdim=True))
    others = [SALIENCY[other](images, SOFT, net) for other in MAPS if other != name]
    assert not any(torch.allclose(maps, other, rtol=0.02) for other in others)


def test_only_getam_looks_for_the_class():
    net, images = vit().eval(), noise(0, 1, 1, 8, 8)
    for name in MAPS:
        first, second = (SALIENCY[name](images, one[None], net) for one in torch.eye(CLASSES)[:2])
        assert torch.allclose(first, second, rtol=0.02) == (name != "getam")


@every_map
def test_passes_are_counted(name):
    """Two blocks have four linear layers each; the head is one more."""
    net, images = vit(class_token=False, global_pool="avg").eval(), noise(0, 3, 1, 8, 8)
    forward, backward = SALIENCY.info(name).passes
    with Watch() as watch:
        SALIENCY[name](images, SOFT, net)
    assert len(watch.of("convolution")) == forward == 1
    # Backward to the attention of the first block, and not to the patches.
    assert bool(watch.of("_softmax_backward_data")) == bool(backward)
    assert not watch.of("convolution_backward")


@every_map
def test_a_net_without_attention_is_told_what_works(name):
    with pytest.raises(ConfigError, match="PooledNet shows no attention") as error:
        SALIENCY[name](noise(0, 3, 2, 5, 7), SOFT, pooled())
    assert "'cam' or 'gradcam'" in error.value.hint
    with pytest.raises(ConfigError, match="is a function of the images"):
        SALIENCY[name](noise(0, 3, 1, 8, 8), SOFT, lambda images: vit()(images))


@every_map
def test_an_action_is_refused_before_a_training_with_what_works(name):
    action, shape = MixAction("cutmix", 0.5, name), (1, 8, 8)
    check_backbone(action, "area", "vit_digits", 10, shape)
    with pytest.raises(ConfigError, match=f"{name} needs the attention of the net") as error:
        check_backbone(action, "area", "small_cnn_w8", 10, shape)
    assert "vit_digits" in error.value.hint
    assert "saliency provider that small_cnn_w8 can play: cam, ema, gradcam," in error.value.hint
