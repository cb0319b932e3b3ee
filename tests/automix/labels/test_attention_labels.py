"""Label rules that watch the attention of the net in training: what they make of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn as nn
from hypothesis import given
from hypothesis import strategies as st
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.testing import assert_close

import automix.labels.attention as attention_rule
from automix.core.errors import ConfigError
from automix.core.seeding import borrowed_global_rng, generator
from automix.labels import LABEL_RULES, MixRecord, Seen, Weights
from automix.masks.method_steps import soft_losses
from automix.masks.pairing import pair_batches
from automix.masks.shapes import as_mask
from automix.mixing.actions import PRESETS, MixAction
from automix.mixing.batch import Mixed, MixSettings, mix_batch
from automix.mixing.loss import loss_of
from automix.mixing.targets import as_targets
from automix.nets.create import SMALL_TRANSFORMERS, create_classifier
from automix.training.requirements import check_playable
from tests import tiny
from tests.cases import each
from tests.references import labels as label_references
from tests.references import token_labels as references
from tests.strategies import SEEDS

CLASSES, SIZE, PATCH, N = 7, (8, 12), 2, 5

RULES = [e.name for e in LABEL_RULES.entries() if "attention" in e.info.requires]
every_rule = each("rule", RULES)
every_base = each("base", ["attention", "token_aligned"])

STILL = ("perturbed_attention", "perturbed_token_aligned")
NO_NOISE = [f"{rule}.noise=0" for rule in STILL]


def transformer(heads: int = 2, **changes: object) -> VisionTransformer:
    sizes = {"img_size": SIZE, "patch_size": PATCH, "in_chans": 3, "num_classes": CLASSES}
    with borrowed_global_rng(0):
        net = VisionTransformer(**sizes, embed_dim=16, depth=3, num_heads=heads, **changes)
        for block in net.blocks:  # as it begins, each looks everywhere nearly alike
            nn.init.normal_(block.attn.qkv.weight, std=0.6)
            nn.init.normal_(block.attn.qkv.bias, std=0.2)
    return net


POOLED = {"class_token": False, "global_pool": "avg"}
both_nets = each("changes", [{}, POOLED])


def planted(net: VisionTransformer, keys: Tensor) -> VisionTransformer:
    """Let queries and keys be the tokens, as the block normalises them, times a matrix."""
    for block in net.blocks:
        with torch.no_grad():
            block.attn.qkv.weight[:32] = torch.cat([keys, keys])
            block.attn.qkv.bias.zero_()
    return net


def uniform(**changes: object) -> VisionTransformer:
    return planted(transformer(**changes), torch.zeros(16, 16))


def identical(**changes: object) -> VisionTransformer:
    """Each token looks at itself alone: all are equally long, so none is more like another."""
    return planted(transformer(heads=1, **changes), 20 * torch.eye(16))


def batch(n: int = N, size: tuple[int, int] = SIZE) -> Tensor:
    drawn = generator(3, "images").standard_normal((n, 3, *size), dtype=np.float32)
    return torch.from_numpy(drawn)


def mix(rule: str, method: str = "token_cutmix", *, options=(), labels=None, **more) -> Mixed:
    images = more.pop("images", None)
    images = batch() if images is None else images
    return mix_batch(
        images,
        torch.arange(len(images)) if labels is None else labels,
        MixAction.parse(f"{method}@0.5:{rule}"),
        num_classes=CLASSES,
        rng=generator(5, "mix"),
        settings=MixSettings(options=options, **more),
    )


def targets_of(mixed: Mixed, net: nn.Module) -> Tensor:
    assert mixed.revised is not None
    return mixed.revised.asked(net, mixed.images, slice(None))[1]


def dense(mixed: Mixed) -> list:
    return mixed.mask.expand(-1, 1, *mixed.images.shape[2:])[:, 0].tolist()


# Where attention says nothing, or all -----------------------------------------------------------


@every_base
@both_nets
@each("method", ["token_cutmix", "mixup"])
def test_uniform_attention_gives_the_area_label(base, method, changes):
    mixed = mix(base, method)
    assert_close(targets_of(mixed, uniform(**changes)), mix("area", method).targets)


@both_nets
def test_identity_attention_gives_the_area_label_where_labels_are_carried(changes):
    mixed = mix("token_aligned")
    assert_close(targets_of(mixed, identical(**changes)), mix("area").targets, atol=1e-4, rtol=0)
    assert_different(targets_of(mixed, transformer(**changes)), mix("area").targets)


@every_base
@both_nets
def test_constant_masks_give_the_area_label_whatever_the_attention(base, changes):
    mixed = mix(base, "mixup")
    assert_close(targets_of(mixed, transformer(**changes)), mix("area", "mixup").targets)


@every_rule
def test_where_nobody_watches_the_area_stands_for_what_is_seen(rule):
    options = [f"{one}.{part}=0" for one in STILL for part in ("noise", "strength")]
    mixed, area = mix(rule, options=options), mix("area")
    assert_close(mixed.targets, area.targets)
    assert_close(mixed.own_share, area.own_share)
    assert_close(mixed.revised(torch.randn(N, CLASSES), slice(None)), area.targets)


def test_attention_with_no_say_is_the_area_and_with_all_of_it_what_is_attended():
    net, area = transformer(), mix("area").targets
    silent = mix("attention", options=["attention.strength=0"])
    half, full = (
        targets_of(mix("attention", options=[f"attention.strength={s}"]), net) for s in (0.5, 1)
    )
    assert_close(silent.targets, area)
    assert_close(half, (area + full) / 2)
    assert_different(full, area)
    assert silent.revised is None, "a net is not watched for nothing"


def assert_different(got: Tensor, other: Tensor) -> None:
    assert float((got - other).abs().max()) > 0.01


# Slow twins -------------------------------------------------------------------------------------


def attentions(net: VisionTransformer, images: Tensor) -> list[list]:
    """What each block looks at, (n, n) for each image, by the slow twin."""
    seen: list[Tensor] = []
    handles = [
        block.attn.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
        for block in net.blocks
    ]
    net(images)
    for handle in handles:
        handle.remove()
    return [
        [
            references.attention(
                *(part.tolist() for part in (tokens, block.attn.qkv.weight, block.attn.qkv.bias)),
                block.attn.num_heads,
            )
            for tokens in given
        ]
        for block, given in zip(net.blocks, seen, strict=True)
    ]


LABELS = {
    "classes": torch.arange(N),
    "smoothed": as_targets(torch.arange(N), CLASSES, 0.1),
    "soft": torch.from_numpy(
        generator(1, "labels").dirichlet(np.ones(CLASSES), N).astype(np.float32)
    ),
}


@each("labels", LABELS.values())
@each("share_per", ["image", "batch"])
def test_carried_labels_are_those_of_a_twin_with_a_column_for_each_class(labels, share_per):
    net = transformer()
    mixed = mix("token_aligned", labels=labels, share_per=share_per)
    rows, blocks = as_targets(labels, CLASSES).tolist(), attentions(net, mixed.images)
    got = targets_of(mixed, net)
    for i, j in enumerate(mixed.partner.tolist()):
        labels = references.begun(dense(mixed)[i], PATCH, rows[i], rows[j])
        wanted = references.aligned(labels, [block[i] for block in blocks])[0]
        assert got[i].tolist() == pytest.approx(wanted, abs=1e-5)
    assert_different(got, mixed.targets)


def test_nets_without_class_token_read_the_mean_label_of_their_tokens():
    net, rows = transformer(**POOLED), torch.eye(CLASSES).tolist()
    mixed = mix("token_aligned")
    got, blocks = targets_of(mixed, net), attentions(net, mixed.images)
    for i, j in enumerate(mixed.partner.tolist()):
        labels = references.begun(dense(mixed)[i], PATCH, rows[i], rows[j])[1:]
        tokens = references.aligned(labels, [block[i] for block in blocks])
        wanted = [sum(column) / len(tokens) for column in zip(*tokens, strict=True)]
        assert got[i].tolist() == pytest.approx(wanted, abs=1e-5)


@both_nets
def test_attended_shares_are_those_of_the_twin(changes):
    net, (height, width) = transformer(**changes), SIZE
    mixed = mix("attention")
    got, last = targets_of(mixed, net), attentions(net, mixed.images)[-1]
    for i, j in enumerate(mixed.partner.tolist()):
        row = last[i][0][1:]
        if changes is POOLED:
            row = [sum(column) for column in zip(*last[i], strict=True)]
        area = sum(map(sum, dense(mixed)[i])) / (height * width)
        theirs = (area + references.attended(dense(mixed)[i], PATCH, row)) / 2
        wanted = torch.zeros(CLASSES)
        wanted[i] += 1 - theirs
        wanted[j] += theirs
        assert got[i].tolist() == pytest.approx(wanted.tolist(), abs=1e-5)


def test_planted_attention_weighs_as_computed_by_hand(monkeypatch):
    """Of 2 x 2 tokens the partner has the left two; all of one image, a quarter of another."""
    maps = torch.tensor([[[0.1, 0.2], [0.3, 0.4]], [[0.7, 0.0], [0.1, 0.2]]])
    maps = torch.cat([maps, maps])
    mask = torch.zeros(4, 1, 4, 4)
    mask[:2, :, :, :2] = 1
    mask[2] = 1
    mask[3, :, :2, :2] = 1

    def token_masks(net, images, masks):
        return masks[:, 0, 1::2, 1::2]

    monkeypatch.setattr(attention_rule, "attended", lambda net, images, query: (net(images), maps))
    monkeypatch.setattr(attention_rule, "token_masks", token_masks)
    pairs = pair_batches(4, 4, "roll", generator(0))
    told = LABEL_RULES["attention"](MixRecord(as_mask(mask), np.zeros(4), pairs, generator(0)))
    logits, partner = told.watch(nn.Flatten(), torch.zeros(4, 3, 4, 4), mask)
    assert logits.shape == (4, 48)
    assert_close(partner, torch.tensor([0.4, 0.8, 1.0, 0.7]))
    lam = told.revision(Seen(torch.zeros(4), torch.zeros(4), partner), slice(None))
    assert_close(lam, torch.tensor([0.55, 0.35, 0.0, 0.525]))
    some = told.revision(Seen(torch.zeros(2), torch.zeros(2), partner[1:3]), slice(1, 3))
    assert_close(some, lam[1:3])


# Perturbed --------------------------------------------------------------------------------------


def weighed(rule: str, mask: Tensor, **options: float) -> Weights:
    pairs, rng = pair_batches(len(mask), len(mask), "roll", generator(0)), generator(0, "rule")
    return LABEL_RULES[rule](MixRecord(as_mask(mask), np.zeros(len(mask)), pairs, rng), **options)


@every_base
def test_without_strength_and_noise_the_perturbed_rule_is_its_base(base):
    net, words = transformer(), [f"perturbed_{base}.{part}=0" for part in ("strength", "noise")]
    mixed = mix(f"perturbed_{base}", options=words)
    wanted = mix(base)
    assert torch.equal(mixed.targets, wanted.targets)
    assert torch.equal(targets_of(mixed, net), targets_of(wanted, net))


def test_without_attention_the_perturbed_rule_is_that_of_the_area():
    net, words = transformer(), ["perturbed_attention.attention=0"]
    mixed, wanted = mix("perturbed_attention", options=words), mix("perturbed")
    assert torch.equal(mixed.targets, wanted.targets)
    assert_close(targets_of(mixed, net), targets_of(wanted, net))


@every_base
@given(
    seed=SEEDS,
    strength=st.floats(0, 0.6),
    noise=st.floats(0, 0.4),
    seen=st.lists(st.floats(0, 1, width=32), min_size=12, max_size=12),
)
def test_the_perturbed_label_is_the_formula_on_top_of_the_base(base, seed, strength, noise, seen):
    mask = torch.from_numpy(generator(seed).random((4, 1, 3, 5), dtype=np.float32))
    mask[3] = 1
    told = weighed(f"perturbed_{base}", mask, strength=strength, noise=noise)
    given_seen = Seen(*torch.tensor(seen).view(3, 4))
    got = told.revision(given_seen, slice(None))
    assert bool(((got >= 0) & (got <= 1)).all())
    under = weighed(base, mask).revision(given_seen, slice(None)).tolist()
    chance = generator(0, "rule").beta(1.0, 1.0, 4)
    for i in range(3):
        own, partner = (float(part[i]) for part in (given_seen.own, given_seen.partner))
        if own + partner == 0:  # the net knows neither
            own, partner = under[i], 1 - under[i]
        wanted = under[i] + strength * (own / (own + partner) - under[i])
        wanted += noise * (chance[i] - under[i])
        assert float(got[i]) == pytest.approx(wanted, abs=1e-5)
        if base == "attention" and under[i] not in (0, 1):
            parts = (under[i], own, partner, chance[i], strength, noise)
            assert float(got[i]) == pytest.approx(label_references.perturbed(*parts), abs=1e-5)
    assert float(got[3]) == 0, "an image that shows one of the two keeps its label"


# In a step --------------------------------------------------------------------------------------


@every_rule
@each("method", ["token_cutmix", "cutmix", "mixup", "rmix", "fmix", "resizemix", "smoothmix"])
def test_targets_are_probabilities_under_every_mask(rule, method):
    mixed = mix(rule, method)
    targets = targets_of(mixed, transformer())
    assert bool((targets >= 0).all())
    assert_close(targets.sum(1), torch.ones(N))
    pair = torch.zeros(N, CLASSES)
    for i, j in enumerate(mixed.partner.tolist()):
        pair[i, [i, j]] = 1
    assert not targets[pair == 0].any()


@every_rule
@each("method", ["token_cutmix", "mixup"])
def test_batches_that_are_not_mixed_keep_their_label(rule, method):
    for more in ({"mix_probability": 0.0}, {"pairing": "flip", "images": batch(1)}):
        mixed = mix(rule, method, **more)
        wanted = torch.eye(CLASSES)[: len(mixed.images)]
        assert torch.equal(targets_of(mixed, transformer()), wanted)


@every_rule
def test_rows_that_weigh_more_keep_their_weight(rule):
    rows = torch.eye(CLASSES)[:N] * torch.linspace(0.5, 2, N)[:, None]
    net = transformer()
    mixed, plain = (mix(rule, labels=labels) for labels in (rows, None))
    weights = torch.cat([torch.linspace(0.5, 2, N), torch.ones(CLASSES - N)])
    assert_close(targets_of(mixed, net), targets_of(plain, net) * weights)


@every_rule
def test_gradients_reach_the_weights_as_in_a_plain_step_and_the_target_has_none(rule):
    net, mixed = transformer(), mix(rule)
    logits, targets = mixed.revised.asked(net, mixed.images, slice(None))
    assert not targets.requires_grad
    assert_close(logits, net(mixed.images))
    got = torch.autograd.grad(soft_losses(logits, targets).mean(), [*net.parameters()])
    plain = soft_losses(net(mixed.images), targets.clone()).mean()
    wanted = torch.autograd.grad(plain, [*net.parameters()])
    for one, other in zip(got, wanted, strict=True):
        assert_close(one, other, atol=1e-6, rtol=1e-4)
        assert one.abs().sum() > 0


@every_rule
def test_a_step_in_half_precision_has_the_labels_of_a_whole_one(rule):
    net, mixed = transformer(), mix(rule, options=NO_NOISE)
    wanted = targets_of(mixed, net)
    with torch.autocast("cpu", torch.bfloat16):
        logits, targets = mixed.revised.asked(net, mixed.images, slice(None))
    assert logits.dtype == torch.bfloat16
    assert targets.dtype == torch.float32
    assert_close(targets, wanted, atol=0.02, rtol=0)
    assert_close(targets.sum(1), torch.ones(N))


@every_rule
def test_some_rows_of_what_was_mixed_ahead_are_revised_as_all_of_it(rule):
    net, mixed = transformer(), mix(rule)
    some = mixed.revised.asked(net, mixed.images[2:4], slice(2, 4))[1]
    assert_close(some, targets_of(mixed, net)[2:4])


@each("text", ["transmix@0.5", "tlalign@0.5", "mixup@0.4:perturbed_attention"])
def test_a_loop_of_ones_own_gets_the_loss_against_what_attention_says(text):
    net, images = transformer(), batch()
    told = loss_of(
        *(net, images, torch.arange(N), MixAction.parse(text)),
        num_classes=CLASSES,
        rng=generator(5, "mix"),
    )
    mixed = mix_batch(
        *(images, torch.arange(N), MixAction.parse(text)),
        num_classes=CLASSES,
        rng=generator(5, "mix"),
    )
    wanted = soft_losses(net(mixed.images), targets_of(mixed, net))
    assert_close(told.losses, wanted)
    assert_close(told.own_share, mixed.own_share)
    assert told.passes == (0, 0)


OTHERS = {"swin_mini_patch2_32": (32, 32), "pvt_v2_mini": (32, 32), "vit_digits": (8, 8)}


@each("name", OTHERS)
@each("base", ["attention", "token_aligned"])
def test_every_kind_of_transformer_is_watched(name, base):
    """Without a class token, and with tokens that grow fewer from stage to stage."""
    net = create_classifier(name, num_classes=CLASSES, shape=(3, *OTHERS[name]), seed=0).eval()
    for parameter in net.parameters():  # as it begins, each token looks everywhere nearly alike
        parameter.data *= 3 if parameter.dim() > 1 else 1
    images = batch(size=OTHERS[name])
    boxes, area, constant = (
        mix(rule, method, images=images)
        for rule, method in ((base, "cutmix"), ("area", "cutmix"), (base, "mixup"))
    )
    targets = targets_of(boxes, net)
    assert_close(targets.sum(1), torch.ones(N))
    assert bool((targets >= 0).all())
    assert float((targets - area.targets).abs().max()) > 1e-3
    assert_close(targets_of(constant, net), constant.targets)


@each("name", [*SMALL_TRANSFORMERS, "deit_small_patch4_32"])
def test_boxes_of_whole_tokens_split_none_of_the_nets_that_come_along(name):
    side = 8 if name == "vit_digits" else 32
    net = create_classifier(name, num_classes=CLASSES, shape=(3, side, side), seed=0)
    patch = next(m for m in net.patch_embed.modules() if isinstance(m, nn.Conv2d)).stride[0]
    labels = torch.zeros(40, dtype=torch.int64)
    masks = mix("area", images=batch(40, (side, side)), labels=labels).mask
    shares = nn.functional.avg_pool2d(masks, patch).unique().tolist()
    assert shares == [0, 1]


# Which nets and methods -------------------------------------------------------------------------


@every_rule
def test_a_net_without_attention_is_refused_and_what_works_with_it_named(rule):
    action, settings = MixAction.parse(f"cutmix@0.5:{rule}"), tiny.trainer_settings()
    with pytest.raises(ConfigError, match=f"{rule} needs the attention of the net") as error:
        check_playable(action, settings, 10, (1, 8, 8), torch.device("cpu"))
    assert "trainer.model=small_cnn_w8" in error.value.message
    assert "vit_digits" in error.value.hint
    for instead in ("saliency_mass", "cam_mass"):
        assert instead in error.value.hint
        works = MixAction.parse(f"cutmix@0.5+gradient:{instead}")
        check_playable(works, settings, 10, (1, 8, 8), torch.device("cpu"))


@every_rule
def test_a_net_without_attention_is_refused_in_a_loop_of_ones_own(rule):
    net = create_classifier("small_cnn_w8", num_classes=CLASSES, shape=(3, *SIZE), seed=0)
    with pytest.raises(ConfigError, match="shows no attention"):
        targets_of(mix(rule), net)


@each("method", ["cutout", "mixstyle", "comixup"])
@every_rule
def test_methods_that_show_no_second_label_are_refused(rule, method):
    with pytest.raises(ConfigError, match=f"label rule '{rule}' weighs two labels"):
        MixAction.parse(f"{method}@0.5:{rule}")


@each(
    "name, form",
    [("transmix", "cutmix@0.5:attention"), ("tlalign", "token_cutmix@0.5:token_aligned")],
)
def test_published_names(name, form):
    assert str(MixAction.parse(name)) == form
    assert list(PRESETS) == sorted(PRESETS)
