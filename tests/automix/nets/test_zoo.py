"""The nets of the published protocol: their weights counted twice, and that they train."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.models import register_model

from automix.core.errors import ConfigError
from automix.mixing.actions import PLAIN, MixAction
from automix.nets.attention import attended, grid_of, has_attention
from automix.nets.create import PROTOCOL_NETS, SMALL_TRANSFORMERS, create_classifier
from automix.nets.zoo.resnext import ResNeXt29
from automix.nets.zoo.wide_resnet import WideResNet
from automix.training.population import Population
from automix.training.requirements import ABILITIES, abilities_of
from tests import tiny
from tests.cases import each


def conv(inputs: int, outputs: int, kernel: int = 3, *, groups: int = 1, bias: bool = False) -> int:
    return kernel * kernel * inputs * outputs // groups + bias * outputs


def norm(channels: int) -> int:
    return 2 * channels


def linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def preact18(classes: int) -> int:
    total, before = conv(3, 64), 64
    for width in (64, 64, 128, 128, 256, 256, 512, 512):
        total += norm(before) + conv(before, width) + norm(width) + conv(width, width)
        total += conv(before, width, 1) if width != before else 0
        before = width
    return total + linear(512, classes)


def wide(depth: int, widen: int, classes: int) -> int:
    total, before = conv(3, 16, bias=True), 16
    for width in (16 * widen, 32 * widen, 64 * widen):
        for _ in range((depth - 4) // 6):
            total += norm(before) + conv(before, width, bias=True)
            total += norm(width) + conv(width, width, bias=True)
            total += conv(before, width, 1, bias=True) if width != before else 0
            before = width
    return total + norm(before) + linear(before, classes)


def resnext29(groups: int, base: int, classes: int) -> int:
    total, before = conv(3, 64) + norm(64), 64
    for outputs, width in ((256, base), (512, 2 * base), (1024, 4 * base)):
        inner = groups * width
        for _ in range(3):
            total += conv(before, inner, 1) + norm(inner) + conv(inner, inner, groups=groups)
            total += norm(inner) + conv(inner, outputs, 1) + norm(outputs)
            total += conv(before, outputs, 1) + norm(outputs) if before != outputs else 0
            before = outputs
    return total + linear(1024, classes)


def deit_small(classes: int, patches: int = 64, d: int = 384) -> int:
    block = 2 * norm(d) + linear(d, 3 * d) + linear(d, d) + linear(d, 4 * d) + linear(4 * d, d)
    embedding = conv(3, d, 4, bias=True) + d + (patches + 1) * d
    return embedding + 12 * block + norm(d) + linear(d, classes)


@each(
    "name, counted, published, side",
    [
        ("preact_resnet18", preact18(100), 11.2e6, 32),
        ("preact_resnet18_s2", preact18(100), 11.2e6, 64),
        ("wide_resnet16_8", wide(16, 8, 100), 11.0e6, 32),
        ("wide_resnet28_10", wide(28, 10, 100), 36.5e6, 32),
        ("resnext29_4x24d", resnext29(4, 24, 100), 4.94e6, 32),
        ("deit_small_patch4_32", deit_small(100), 21.4e6, 32),
    ],
)
def test_the_weights_are_those_of_the_formula_and_of_the_paper(name, counted, published, side):
    net = create_classifier(name, num_classes=100, shape=(3, side, side), seed=0)
    assert sum(p.numel() for p in net.parameters()) == counted
    assert counted == pytest.approx(published, rel=0.005)


def test_the_count_of_xie_et_al_comes_out_for_their_own_resnext():
    """Table 7 of arXiv:1611.05431: 8x64d has 34.4 M weights on CIFAR-10."""
    net = ResNeXt29(8, 64, num_classes=10)
    assert sum(p.numel() for p in net.parameters()) == resnext29(8, 64, 10)
    assert resnext29(8, 64, 10) == pytest.approx(34.4e6, rel=0.002)


@each(
    "name, last",
    [
        ("small_cnn_w8", (32, 4, 4)),
        ("preact_resnet18", (512, 2, 2)),
        ("preact_resnet18_s2", (512, 1, 1)),
        ("wide_resnet16_8", (512, 4, 4)),
        ("resnext29_4x24d", (1024, 4, 4)),
    ],
)
def test_they_have_the_parts_that_timm_nets_have_and_take_other_sizes(name, last):
    net = timm.create_model(name, pretrained=False, num_classes=4, in_chans=1).eval()
    images = torch.rand(2, 1, 16, 16)
    with torch.no_grad():
        features = net.forward_features(images)
        assert features.shape == (2, *last)
        assert torch.equal(net.forward_head(features), net(images))
    assert features.shape[1] == net.num_features
    assert net.get_classifier().out_features == net.num_classes == 4


def side_of(name: str) -> int:
    return 8 if name == "vit_digits" else 32


@each("name, grid", list(zip(SMALL_TRANSFORMERS, [(4, 4), (8, 8), (8, 8), (4, 4)], strict=True)))
def test_the_small_transformers_show_their_attention_from_the_start(name, grid):
    side = side_of(name)
    net = create_classifier(name, num_classes=4, shape=(1, side, side), seed=0)
    images = torch.rand(2, 1, side, side)
    assert has_attention(net)
    logits, maps = attended(net.eval(), images)
    assert logits.shape == (2, 4)
    assert maps.shape == (2, *grid)
    assert float(logits.detach().abs().min()) > 0
    wide = (side, side + side // 2)
    other = create_classifier(name, num_classes=4, shape=(1, *wide), seed=0)
    assert grid_of(other, torch.rand(1, 1, *wide)) == (grid[0], grid[1] + grid[1] // 2)


@each("name", ["vit_digits", "vit_mini_patch4_32", "swin_mini_patch2_32"])
def test_images_that_patches_do_not_cover_are_refused(name):
    with pytest.raises(ConfigError, match=f"{name} and the images have 9 x 8 pixels"):
        create_classifier(name, num_classes=3, shape=(1, 9, 8), seed=0)


@each("name", SMALL_TRANSFORMERS)
def test_small_transformers_show_everything(name):
    side = 8 if name == "vit_digits" else 32
    assert abilities_of(name, 3, (1, side, side)) == set(ABILITIES)


def test_places_of_the_digits_transformer_begin_as_different_as_contents():
    net = create_classifier("vit_digits", num_classes=10, shape=(1, 8, 8), seed=0)
    assert float(net.pos_embed.detach().std()) == pytest.approx(1.0, rel=0.1)
    assert float(net.head.weight.detach().abs().max()) > 0  # else nothing before it has slopes


def test_the_transformer_takes_the_images_of_the_task_and_says_which_it_cannot():
    net = create_classifier("deit_small_patch4_32", num_classes=3, shape=(1, 8, 12), seed=0)
    assert net.patch_embed.num_patches == 6
    with pytest.raises(ConfigError, match="30 x 32 pixels, wanted multiples of 4"):
        create_classifier("deit_small_patch4_32", num_classes=3, shape=(3, 30, 32), seed=0)


@each("name", [*PROTOCOL_NETS, *SMALL_TRANSFORMERS])
def test_a_net_says_how_large_it_is(name):
    millions = float(timm.model_entrypoint(name).__doc__.split(" M weights")[0])
    net = timm.create_model(name, num_classes=100 if name in PROTOCOL_NETS else 10)
    weights = sum(p.numel() for p in net.parameters())
    assert round(weights / 1e6, 1) == millions


@register_model
def wide_for_tests(pretrained: bool = False, **kwargs):
    return WideResNet(10, 1, num_classes=kwargs["num_classes"], in_chans=kwargs["in_chans"])


@register_model
def resnext_for_tests(pretrained: bool = False, **kwargs):
    return ResNeXt29(2, 2, num_classes=kwargs["num_classes"], in_chans=kwargs["in_chans"])


@each("model", ["wide_for_tests", "resnext_for_tests"])
def test_members_train_side_by_side_as_they_do_alone(model):
    task = tiny.fake_task((3, 8, 8))
    settings = tiny.trainer_settings(
        model=model, epochs=2, batch_size=6, sched="onecycle", lr=0.05, probe_size=4
    )
    actions = [MixAction("cutmix", 0.5, mix_probability=0.5), MixAction("rmix", 0.5, "gradient")]
    together = Population([task] * 3, settings)
    together.reset([1, 1, 1])
    records = together.run_epoch([PLAIN, *actions])
    for record, action in zip(records[1:], actions, strict=True):
        alone = Population([task], settings)
        start = alone.reset([1])[0]
        (wanted,) = alone.run_epoch([action])
        assert wanted.val_loss == pytest.approx(record.val_loss, rel=1e-4)
        assert wanted.val_loss != start.val_loss
        assert not record.diverged


@pytest.mark.slow
@each("model", PROTOCOL_NETS)
def test_the_nets_themselves_train_in_a_population(model):
    side = 64 if model.endswith("_s2") else 32
    task = tiny.fake_task((3, side, side), train=4, val=3, test=3)
    settings = tiny.trainer_settings(model=model, epochs=1, batch_size=2, probe_size=2, lr=0.01)
    population = Population([task] * 2, settings)
    before = population.reset([1, 1])
    after = population.run_epoch([PLAIN, MixAction("rmix", 0.5, "gradient")])
    assert before[0].val_loss == pytest.approx(before[1].val_loss, rel=1e-4)
    assert after[0].mixed_loss != after[1].mixed_loss
    assert not any(record.diverged for record in after)


@each("model", SMALL_TRANSFORMERS)
def test_the_small_transformers_learn_a_batch(model):
    side = side_of(model)
    task = tiny.fake_task((1, side, side), train=8, val=3, test=3)
    settings = tiny.trainer_settings(
        model=model, epochs=6, batch_size=8, warmup_epochs=0, opt="adamw", lr=3e-3, probe_size=4
    )
    population = Population([task], settings)
    before = population.reset([1])[0]
    for _ in range(6):
        (after,) = population.run_epoch([PLAIN])
    assert after.train_loss < before.train_loss
    assert not after.diverged


@pytest.mark.slow
def test_deit_small_takes_a_step_at_224_pixels():
    task = tiny.fake_task((3, 224, 224), train=2, val=1, test=1)
    settings = tiny.trainer_settings(
        model="deit_small_patch16_224", epochs=1, batch_size=2, probe_size=1, lr=0.01
    )
    population = Population([task], settings)
    before = population.reset([1])[0]
    (after,) = population.run_epoch([MixAction("cutmix", 0.5, "attention_cls")])
    assert not after.diverged
    assert after.val_loss != before.val_loss
