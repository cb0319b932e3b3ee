"""Attention of timm's transformers against twins that compute it token by token."""

from __future__ import annotations

import pytest
import timm
import torch
import torch.nn as nn
from timm.models.deit import VisionTransformerDistilled
from timm.models.pvt_v2 import PyramidVisionTransformerV2
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch.testing import assert_close

from automix.core.errors import ConfigError
from automix.core.seeding import borrowed_global_rng
from automix.nets.attention import (
    attended,
    carried,
    grid_of,
    has_attention,
    spoken_for,
    token_masks,
)
from automix.nets.create import create_classifier
from automix.nets.stacking import stack
from tests.automix.saliency.planted import CLASSES, noise
from tests.cases import each
from tests.references import attention as reference

SIZE = (8, 12)
FORM = {"in_chans": 2, "num_classes": CLASSES}
VIT = {**FORM, "img_size": SIZE, "patch_size": 2, "embed_dim": 8, "depth": 3, "num_heads": 2}
SWIN = {**FORM, "img_size": SIZE, "embed_dim": 8, "drop_path_rate": 0.0, "num_heads": (2, 2)}
PVT = {**FORM, "embed_dims": (8, 12), "num_heads": (2, 2), "mlp_ratios": (2, 2), "depths": (2, 2)}
MAKERS = {
    "class token": lambda **more: VisionTransformer(**VIT | more),
    "two class tokens": lambda **more: VisionTransformerDistilled(**VIT | more),
    "registers": lambda **more: VisionTransformer(**VIT | {"reg_tokens": 2} | more),
    "mean of tokens": lambda **more: VisionTransformer(**VIT | {"global_pool": "avg"} | more),
    "no class token": lambda **more: VisionTransformer(
        **VIT | {"global_pool": "avg", "class_token": False} | more
    ),
    "windows": lambda **more: SwinTransformer(
        **SWIN | {"patch_size": 1, "depths": (2, 2), "window_size": 4} | more
    ),
    "padded windows": lambda **more: SwinTransformer(
        **SWIN | {"patch_size": 2, "depths": (2, 2), "window_size": 3} | more
    ),
    "pyramid": lambda **more: PyramidVisionTransformerV2(**PVT | {"sr_ratios": (2, 1)} | more),
    "reduced pyramid": lambda **more: PyramidVisionTransformerV2(
        **PVT | {"sr_ratios": (1, 2)} | more
    ),
    "linear pyramid": lambda **more: PyramidVisionTransformerV2(**PVT | {"linear": True} | more),
}
PLAIN = list(MAKERS)[:5]
ONE_SIZE = [kind for kind in MAKERS if "pyramid" not in kind]
kinds = each("kind", list(MAKERS))


def net_of(kind, **more):
    with borrowed_global_rng(0):
        net = MAKERS[kind](**more)
        for weight in net.parameters():
            nn.init.normal_(weight, std=0.5)
    return net.eval()


def images_of(kind, b=3):
    return noise(0, b, 2, *((40, 56) if "pyramid" in kind else SIZE))


def unlooking(net):
    """Queries of zeros: every token looks at all that it may look at alike."""
    for module in net.modules():
        if hasattr(module, "qkv"):
            nn.init.zeros_(module.qkv.weight)
            nn.init.zeros_(module.qkv.bias)
        if hasattr(module, "kv"):
            nn.init.zeros_(module.q.weight)
            nn.init.zeros_(module.q.bias)
        if hasattr(module, "relative_position_bias_table"):
            nn.init.zeros_(module.relative_position_bias_table)
    return net


def attention_modules(net):
    return [module for module in net.modules() if hasattr(module, "attn_drop")]


# What is looked at ------------------------------------------------------------------------------


@kinds
@each("query", ["class", "mean"])
@each("training", [True, False])
def test_maps_are_shares_of_a_grid_and_logits_are_those_of_the_net(kind, query, training):
    net, images = net_of(kind).train(training), images_of(kind)
    logits, maps = attended(net, images, query)
    assert_close(logits, net(images), rtol=1e-4, atol=1e-4)
    assert maps.shape == (3, *grid_of(net, images))
    assert maps.dtype == torch.float32
    assert not maps.requires_grad
    assert bool((maps >= 0).all())
    assert_close(maps.sum((1, 2)), torch.ones(3))
    assert not torch.allclose(maps[0], maps[1], rtol=0.02)


@each("kind", PLAIN)
@each("query", ["class", "mean"])
def test_the_map_of_a_vit_is_its_slow_twin(kind, query):
    net, images = net_of(kind), images_of(kind)
    maps = attended(net, images, query)[1]
    prefixes = {"registers": 3, "two class tokens": 2, "no class token": 0}.get(kind, 1)
    rows = slice(prefixes, None)
    if query == "class" and kind not in ("mean of tokens", "no class token"):
        rows = slice(0, 2 if kind == "two class tokens" else 1)
    for image, got in zip(images, maps, strict=True):
        last = reference.vit_blocks(net, image)[-1]
        wanted = last.mean(0)[rows, prefixes:].mean(0)
        assert_close(got.flatten(), wanted / wanted.sum(), rtol=1e-3, atol=1e-6)


@each("kind", ["windows", "padded windows"])
@each("depth", [1, 2])
def test_the_map_of_shifted_windows_is_its_slow_twin(kind, depth):
    """Of one stage whose last block is shifted, or not."""
    net, images = net_of(kind, depths=(depth,), num_heads=(2,)), images_of(kind)
    last = net.layers[0].blocks[-1]
    assert any(last.shift_size) == (depth == 2)
    maps = attended(net, images)[1]
    tokens = net.patch_embed(images)
    for block in net.layers[0].blocks[:-1]:
        tokens = block(tokens)
    for given, got in zip(last.norm1(tokens), maps, strict=True):
        rows = reference.swin_attention(last, given).mean(0)
        wanted = (rows / rows.sum(1, keepdim=True)).sum(0)  # of what is looked at in the image
        assert_close(got.flatten(), wanted / wanted.sum(), rtol=1e-3, atol=1e-6)


def test_the_map_of_a_pyramid_is_its_slow_twin():
    net, images = net_of("pyramid"), images_of("pyramid")
    maps, stage = attended(net, images)[1], net.stages[1]
    given = stage.downsample(net.stages[0](net.patch_embed(images)))
    size = (given.shape[1], given.shape[2])
    tokens = stage.blocks[0](given.flatten(1, 2), size)
    last = stage.blocks[1]
    for one, got in zip(last.norm1(tokens), maps, strict=True):
        wanted = reference.pvt_attention(last.attn, one, size).mean((0, 1))
        assert_close(got.flatten(), wanted, rtol=1e-3, atol=1e-6)


@kinds
def test_where_all_is_looked_at_alike_maps_are_uniform(kind):
    net, images = unlooking(net_of(kind)), images_of(kind)
    maps = attended(net, images)[1]
    assert_close(maps, torch.full_like(maps, 1 / maps[0].numel()))


# Labels along it --------------------------------------------------------------------------------


def planted_weights(kind):
    images = images_of(kind)
    return images, (noise(1, 3, 1, *images.shape[2:]) > 0.3).float()


def one_hot(weights, owner, partner, classes=5):
    """A label of k classes for each pixel, (h, w, k)."""
    own, other = torch.eye(classes)[owner], torch.eye(classes)[partner]
    return (1 - weights[0, ..., None]) * own + weights[0, ..., None] * other


def assert_two_columns(labels, got, owner, partner):
    """The k-column label has the partner's weight, the own image's, and nothing else."""
    assert_close(labels[partner], got, rtol=1e-3, atol=1e-5)
    assert_close(labels[owner], 1 - got, rtol=1e-3, atol=1e-5)
    assert_close(labels.sum(), torch.tensor(1.0))


@each("kind", PLAIN)
def test_two_weights_carry_what_labels_of_all_classes_do_in_a_vit(kind):
    net, (images, weights) = net_of(kind), planted_weights(kind)
    logits, got = carried(net, images, weights)
    assert_close(logits, net(images), rtol=1e-4, atol=1e-4)
    assert not got.requires_grad
    prefixes, reads = net.num_prefix_tokens, 2 if kind == "two class tokens" else 1
    for i, image in enumerate(images):
        owner, partner = i, 4
        pixels = one_hot(weights[i], owner, partner)
        labels = reference.averaged(pixels, 2, 2).flatten(0, 1)
        labels = torch.cat([pixels.mean((0, 1)).expand(prefixes, -1), labels])
        for attention in reference.vit_blocks(net, image):
            labels = (labels + attention.mean(0) @ labels) / 2
        at = labels[:reads] if net.global_pool == "token" else labels[prefixes:]
        assert_two_columns(at.mean(0), got[i], owner, partner)


@each("kind", ["windows", "padded windows"])
def test_two_weights_carry_what_labels_of_all_classes_do_in_windows(kind):
    net, (images, weights) = net_of(kind), planted_weights(kind)
    got = carried(net, images, weights)[1]
    patch = net.patch_embed.patch_size[0]
    for i in range(len(images)):
        labels = reference.averaged(one_hot(weights[i], i, 4), patch, patch)
        tokens = net.patch_embed(images[i : i + 1])
        for stage in net.layers:
            if not isinstance(stage.downsample, nn.Identity):
                labels, tokens = reference.averaged(labels, 2, 2), stage.downsample(tokens)
            for block in stage.blocks:
                attention = reference.swin_attention(block, block.norm1(tokens)[0]).mean(0)
                attention = attention / attention.sum(-1, keepdim=True)  # padding has no label
                flat = labels.flatten(0, 1)
                labels = ((flat + attention @ flat) / 2).view_as(labels)
                tokens = block(tokens)
        assert_two_columns(labels.mean((0, 1)), got[i], i, 4)


@each("kind", ["pyramid", "reduced pyramid"])
def test_two_weights_carry_what_labels_of_all_classes_do_in_a_pyramid(kind):
    net, (images, weights) = net_of(kind), planted_weights(kind)
    got = carried(net, images, weights)[1]
    for i in range(len(images)):
        labels, tokens = one_hot(weights[i], i, 4), images[i : i + 1]
        for stage, embed in zip(
            net.stages, (net.patch_embed, net.stages[1].downsample), strict=True
        ):
            form = (7, 4, 3) if embed is net.patch_embed else (3, 2, 1)
            labels, tokens = reference.averaged(labels, *form), embed(tokens)
            size, tokens = tuple(tokens.shape[1:3]), tokens.flatten(1, 2)
            for block in stage.blocks:
                given = block.norm1(tokens)[0]
                attention = reference.pvt_attention(block.attn, given, size).mean(0)
                ratio = 1 if block.attn.sr is None else 2
                keys = reference.averaged(labels, ratio, ratio).flatten(0, 1)
                labels = ((labels.flatten(0, 1) + attention @ keys) / 2).view_as(labels)
                tokens = block(tokens, size)
            tokens = stage.norm(tokens).transpose(1, 2).view(1, -1, *size)
        assert_two_columns(labels.mean((0, 1)), got[i], i, 4)


@kinds
@each("value", [0.0, 0.25, 1.0])
def test_a_constant_label_arrives_as_it_is(kind, value):
    net, images = net_of(kind), images_of(kind)
    got = carried(net, images, torch.full((3, 1, *images.shape[2:]), value))[1]
    assert_close(got, torch.full((3,), value))


def plant(net, *attentions):
    """Let blocks look as told, (n, n) each, in all heads and images."""
    for block, attention in zip(net.blocks, attentions, strict=True):
        block.attn.attn_drop.register_forward_pre_hook(
            lambda _, given, attention=attention: (attention.expand_as(given[0]),)
        )


def test_tokens_that_look_at_themselves_alone_keep_their_labels():
    """The class token then has the area, and patches have nothing but their own."""
    images, weights = planted_weights("class token")
    for kind in ("class token", "no class token"):
        net = net_of(kind)
        plant(net, *[torch.eye(24 + net.num_prefix_tokens)] * 3)
        assert_close(carried(net, images, weights)[1], weights.mean((1, 2, 3)))


def test_a_label_goes_the_way_that_attention_shows():
    """Patch 7 looks at patch 20, then the class token at patch 7, and at itself."""
    net, (images, weights) = net_of("class token", depth=3), planted_weights("class token")
    first, then, last = torch.eye(25), torch.eye(25), torch.eye(25)
    first[1 + 7] = torch.eye(25)[1 + 20]
    then[0] = 0.5 * torch.eye(25)[0] + 0.5 * torch.eye(25)[1 + 7]
    plant(net, first, then, last)
    patches = torch.nn.functional.avg_pool2d(weights, 2).flatten(1)
    area = weights.mean((1, 2, 3))
    seventh = (patches[:, 7] + patches[:, 20]) / 2
    wanted = (area + (area + seventh) / 2) / 2
    assert not torch.allclose(wanted, area, atol=0.02)
    assert_close(carried(net, images, weights)[1], wanted)


@each("kind", ["class token", "windows", "padded windows"])
def test_uniform_attention_is_the_area(kind):
    net, (images, weights) = unlooking(net_of(kind)), planted_weights(kind)
    assert_close(carried(net, images, weights)[1], weights.mean((1, 2, 3)))


@each("query", ["class", "mean"])
def test_the_map_of_a_planted_look_is_where_it_goes(query):
    """The class token looks at patch 7 and at itself; patches look at patch 3 alone."""
    net, images = net_of("class token", depth=1), images_of("class token")
    attention = torch.zeros(25, 25)
    attention[0, 0], attention[0, 1 + 7], attention[1:, 1 + 3] = 0.75, 0.25, 1.0
    plant(net, attention)
    maps = attended(net, images, query)[1]
    wanted = torch.zeros(4, 6)
    wanted.view(-1)[7 if query == "class" else 3] = 1
    assert_close(maps, wanted.expand(3, 4, 6))


# The net ----------------------------------------------------------------------------------------


@kinds
@each("look", [lambda n, x: attended(n, x)[0], lambda n, x: carried(n, x, x[:, :1])[0]])
def test_gradients_are_those_of_a_plain_step(kind, look):
    net, images = net_of(kind), images_of(kind)
    gradients = []
    for run in (look, lambda n, x: n(x)):
        net.zero_grad()
        run(net, images).square().sum().backward()
        gradients.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 10
    for got, wanted in zip(*gradients, strict=True):
        scale = float(wanted.abs().max()) + 1e-6
        assert_close(got / scale, wanted / scale, rtol=1e-2, atol=1e-3)


@kinds
def test_what_is_switched_for_a_look_is_switched_back_even_after_an_error(kind):
    net, images = net_of(kind), images_of(kind)
    modules = attention_modules(net)
    modules[0].fused_attn, modules[-1].fused_attn = True, False
    before = [module.fused_attn for module in modules]
    carried(net, images, images[:, :1])
    attended(net, images)
    net.register_forward_hook(lambda *_: 1 / 0)
    for look in (lambda: attended(net, images), lambda: carried(net, images, images[:, :1])):
        with pytest.raises(ZeroDivisionError):
            look()
    assert [module.fused_attn for module in modules] == before
    assert not any(module.attn_drop._forward_pre_hooks for module in modules)


@kinds
def test_attention_is_what_it_is_before_dropout(kind):
    more = {"attn_drop_rate": 0.5}
    images, weights = planted_weights(kind)
    dropping, plain = net_of(kind, **more), net_of(kind)
    assert any(m.attn_drop.p == 0.5 for m in attention_modules(dropping))
    wanted = carried(plain, images, weights)[1]
    assert_close(carried(dropping.eval(), images, weights)[1], wanted)
    maps = attended(dropping.train(), images)[1]
    assert_close(maps.sum((1, 2)), torch.ones(3))
    assert bool((maps > 0).all())  # dropped attention would leave zeros
    ones = torch.ones_like(weights)
    assert_close(carried(dropping, images, ones)[1], torch.ones(3))


def test_a_compiled_net_is_looked_at_uncompiled():
    net, images = net_of("class token"), images_of("class token")
    wanted = attended(net, images)[1]
    net._compiled_call_impl = lambda *_: 1 / 0
    assert torch.equal(attended(net, images)[1], wanted)


def test_members_of_a_stack_are_asked_one_by_one():
    nets = [
        create_classifier("vit_digits", num_classes=3, shape=(2, *SIZE), seed=i) for i in (0, 1)
    ]
    images = noise(0, 4, 2, 2, *SIZE)
    logits, maps = stack(nets).ask([1, 0], attended, images, trains=True)
    for place, net in enumerate(reversed(nets)):
        wanted = attended(net, images[:, place])
        assert_close(logits[:, place], wanted[0])
        assert_close(maps[:, place], wanted[1])


@each("kind", ["class token", "windows", "pyramid"])
def test_half_precision_carries_labels_in_full(kind):
    net, (images, weights) = net_of(kind), planted_weights(kind)
    wanted = carried(net, images, weights)[1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got, maps = carried(net, images, weights)[1], attended(net, images)[1]
        ones = carried(net, images, torch.ones_like(weights))[1]
    assert got.dtype == maps.dtype == torch.float32
    assert_close(got, wanted, rtol=0.1, atol=0.05)
    assert_close(ones, torch.ones(3), rtol=0.01, atol=0.01)


# Masks and refusals -----------------------------------------------------------------------------


@kinds
def test_masks_of_whole_tokens_are_found_again(kind):
    net, images = net_of(kind), images_of(kind)
    grid = grid_of(net, images)
    tokens = (noise(2, 3, 1, *grid) > 0).float()
    enlarged = torch.nn.functional.interpolate(tokens, size=images.shape[2:], mode="nearest-exact")
    assert torch.equal(token_masks(net, images, enlarged), tokens[:, 0])


@each("model", ["resnet18", "small_cnn_w8", "mlp_mixer", "convit_tiny", "swinv2_tiny_window8_256"])
def test_nets_without_it_or_of_another_kind_have_none(model):
    if not timm.is_model(model):
        model = "mixer_s16_224"
    with torch.device("meta"):
        net = timm.create_model(model, num_classes=3)
    assert not has_attention(net)
    with pytest.raises(ConfigError, match="shows no attention") as error:
        grid_of(net, torch.zeros(1, 3, 8, 8))
    assert "gradcam" in error.value.hint


@each("change", [{"attn_layer": "diff"}, {"patch_drop_rate": 0.2}, {"global_pool": "map"}])
def test_a_vit_that_would_be_read_wrongly_has_none(change):
    assert not has_attention(VisionTransformer(**VIT | change))


def test_an_image_padded_to_whole_patches_counts_its_pixels_alone():
    net = net_of("class token", dynamic_img_size=True, dynamic_img_pad=True)
    images = noise(0, 2, 2, 7, 9)
    assert grid_of(net, images) == (4, 5)
    ones = torch.ones(2, 1, 7, 9)
    assert_close(carried(net, images, ones)[1], torch.ones(2))
    assert attended(net, images)[1].shape == (2, 4, 5)


# What speaks for a class ------------------------------------------------------------------------


@each("kind", ["class token", "no class token"])
def test_getam_is_its_slow_twin(kind):
    """Slopes from finite differences of the score, with attention moved in the net itself."""
    net, images = net_of(kind, depth=2).double(), images_of(kind, 1).double()
    targets = torch.tensor([[0.2, 0.0, 0.8]], dtype=torch.float64)
    for block in net.blocks:
        block.attn.fused_attn = False
    prefixes, n = net.num_prefix_tokens, 24 + net.num_prefix_tokens
    rows = [0] if kind == "class token" else list(range(n))
    total = torch.zeros(24, dtype=torch.float64)
    for block in net.blocks:
        found, gradients = _slopes(net, block.attn, images, targets)
        positive = (found * gradients).clamp_min(0).mean(0) * gradients.clamp_min(0).mean(0)
        total += positive[rows][:, prefixes:].sum(0)
    wanted = (total / total.sum()).float()
    (got,) = spoken_for(net, images, targets)
    assert_close(got.flatten(), wanted, rtol=1e-3, atol=1e-6)


def _slopes(net, module, images, targets):
    """Attention (heads, n, n) of a module, and the slope of the score at each."""
    kept = []
    handle = module.attn_drop.register_forward_pre_hook(lambda _, given: kept.append(given[0]))
    net(images)
    handle.remove()
    at = kept[0][0].detach()

    def score(attention):
        hook = module.attn_drop.register_forward_pre_hook(lambda *_: (attention[None],))
        value = (net(images) * targets).sum()
        hook.remove()
        return value

    return at, torch.autograd.functional.jacobian(score, at)


def test_frozen_nets_are_asked_what_speaks_for_a_class_and_no_gradient_stays():
    net, images = net_of("class token"), images_of("class token")
    (wanted,) = spoken_for(net, images, torch.eye(3))
    assert all(weight.grad is None for weight in net.parameters())
    net.requires_grad_(False)
    with torch.no_grad():
        assert_close(spoken_for(net, images, torch.eye(3))[0], wanted)


def test_where_nothing_speaks_for_a_class_and_where_nothing_is_a_number_maps_are_uniform():
    net, images = net_of("class token"), images_of("class token")
    uniform = torch.full((3, 4, 6), 1 / 24)
    assert_close(spoken_for(net, images, torch.zeros(3, CLASSES))[0], uniform)
    assert not torch.allclose(spoken_for(net, images, 1e-12 * torch.eye(3))[0], uniform, rtol=0.1)
    nn.init.constant_(net.patch_embed.proj.weight, float("nan"))
    assert_close(attended(net, images)[1], uniform)
