"""SMMix: windows of most and least attention, and the losses of tokens and of consistency."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn as nn
from timm.models.deit import VisionTransformerDistilled
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor
from torch.testing import assert_close

import automix.mixes.smmix as module
from automix.core.errors import ConfigError
from automix.core.seeding import borrowed_global_rng, generator
from automix.masks.method_steps import Step
from automix.masks.pairing import Pairs
from automix.mixes import MIXES
from automix.mixes.smmix import best_window
from automix.mixing.actions import MixAction
from automix.mixing.loss import loss_of
from automix.nets.attention import attended
from automix.nets.create import create_classifier
from automix.nets.zoo.small_cnn import SmallCNN
from automix.training.requirements import check_playable
from tests import tiny
from tests.automix.saliency.planted import CLASSES, SIZE, noise, token_nets
from tests.cases import each
from tests.references import smmix as reference

SMMIX = MIXES["smmix"]
CPU = torch.device("cpu")
TOKEN_NETS = token_nets()


def watched(net: nn.Module) -> list[Tensor]:
    """Return a list of all images that a net will be shown; the last ones are the mixed ones."""
    seen, forward = [], net.forward_features

    def features(images: Tensor, **_: object) -> Tensor:
        seen.append(images)
        return forward(images)

    net.forward_features = features
    return seen


def step_of(images: Tensor, share, *, maps: Tensor | None = None, partner=None, seed=0) -> Step:
    """A batch whose image i has the class i, modulo the number of classes."""
    n = len(images)
    partner = np.roll(np.arange(n), 1) if partner is None else np.asarray(partner)
    share = np.broadcast_to(np.asarray(share, np.float32), (n,))
    targets = torch.eye(CLASSES)[torch.arange(n) % CLASSES]
    pairs = Pairs(partner, n, False)
    return Step(images, targets, share, 0.5, pairs, generator(seed, "mix"), maps)


@pytest.fixture
def planted(monkeypatch):
    """Let a net attend to maps (b, rows, columns) that a test sets."""
    maps: list[Tensor] = []

    def looked(net, images, query):
        assert query == "mean"
        assert not net.training
        return net(images), maps[0]

    monkeypatch.setattr(module, "attended", looked)
    monkeypatch.setattr(module, "has_attention", lambda net: True)
    return maps


def vit(name: str = "class token") -> nn.Module:
    """For images of 1 x 8 x 12, 2 x 3 tokens; no dropout."""
    return copy.deepcopy(TOKEN_NETS[name]).train()


def cnn(shape=(1, 8, 8)) -> nn.Module:
    return create_classifier("small_cnn_w8", num_classes=CLASSES, shape=shape, seed=0).train()


# Windows -----------------------------------------------------------------------------------------


@each("grid", [(5, 7), (4, 4), (1, 6), (14, 14)])
def test_the_best_window_is_the_one_of_the_slow_twin(grid):
    rng = generator(0, "windows")
    maps = torch.from_numpy(rng.random((40, *grid), dtype=np.float32) ** 3)
    sides = rng.integers(1, np.array(grid) + 1, (40, 2))
    for sign, choose in ((1, max), (-1, min)):
        got = best_window(sign * maps, torch.from_numpy(sides))
        for i in range(40):
            wanted = reference.best(maps[i].tolist(), tuple(sides[i].tolist()), choose)
            assert tuple(got[i].tolist()) == wanted


def test_small_sums_beside_a_large_one_are_told_apart():
    maps = torch.full((1, 6, 6), 1e-6)
    maps[0, 0, 0], maps[0, 4, 3] = 1.0, 0.9e-6
    assert best_window(-maps, torch.tensor([[1, 1]])).tolist() == [[4, 3]]


def test_the_strongest_window_covers_the_weakest(planted):
    """Planted attention; windows of the slow twin, and nothing else changes."""
    n, (h, w), patch = 30, (12, 20), 2
    images = noise(1, n, 2, h, w)
    maps = torch.from_numpy(generator(3, "maps").random((n, 6, 10), dtype=np.float32) ** 4)
    planted.append(maps / maps.sum((1, 2), keepdim=True))
    net = cnn((2, h, w))
    seen = watched(net)
    partner = generator(2, "pairs").permutation(n)
    partner[partner == np.arange(n)] = (np.flatnonzero(partner == np.arange(n)) + 1) % n
    told = SMMIX(net, step_of(images, np.linspace(0, 1, n), partner=partner))
    moved = 0
    for i in range(n):
        sides = reference.forms(6, 10)[round((1 - float(told.own_share[i])) * 60)]
        j = int(partner[i])
        source = reference.best(planted[0][j].tolist(), sides)
        target = reference.best(planted[0][i].tolist(), sides, min)
        wanted, _ = reference.pasted(
            images[i].tolist(), images[j].tolist(), source, target, sides, patch
        )
        assert_close(seen[-1][i], torch.tensor(wanted), rtol=0, atol=0)
        moved += source != target
    assert moved > n / 2
    assert told.own_share[0] == 1
    assert told.own_share[-1] == 0


def test_where_tokens_are_no_whole_pixels_windows_lie_at_the_nearest():
    """Each pixel says where and whose it is: 11 x 11 tokens of 31 x 31 pixels."""
    n, side, patch = 40, 31, 31 / 11
    y, x = torch.meshgrid(torch.arange(31.0), torch.arange(31.0), indexing="ij")
    images = torch.stack([torch.stack([y, x, torch.full_like(y, i)]) for i in range(n)])
    net, maps = cnn((3, side, side)), noise(1, n, side * side).softmax(1).view(n, side, side)
    seen = watched(net)
    SMMIX(net, step_of(images, np.linspace(0.1, 0.9, n), maps=maps))
    tokens = nn.functional.adaptive_avg_pool2d(maps[:, None], 11)[:, 0].tolist()
    for i in range(n):
        theirs = seen[-1][i, 2] != i
        at = torch.nonzero(theirs)
        sides = (at.amax(0) - at.amin(0) + 1).tolist()
        assert len(at) == sides[0] * sides[1], "no rectangle"
        u = round(sides[0] / patch)
        places = reference.best(tokens[i - 1], (u, u)), reference.best(tokens[i], (u, u), min)
        for axis, length in enumerate(sides):
            assert length == round(u * patch)
            shown = seen[-1][i, axis][theirs]
            for first, token in ((shown.amin(), places[0]), (at.amin(0)[axis], places[1])):
                assert first == min(round(token[axis] * patch), side - length)
            assert len((at[:, axis] - shown).unique()) == 1, "not moved as it is"


@each("size", [(32, 32), (24, 40), (31, 31), (7, 5), (1, 9)])
def test_windows_have_the_wanted_share_in_the_mean_and_the_form_of_the_image(size):
    for share in (0.1, 0.25, 0.5):
        step = step_of(torch.zeros(4000, 1, *size), share)
        windows = module._windows(step, module.token_grid(size))
        assert abs((1 - windows.own_share()).mean() - share) < 0.02
        rows, columns = windows.sides.T
        assert abs(rows * windows.grid[1] - columns * windows.grid[0]).max() <= max(windows.grid)


@each("whole", [0, 1])
@each("size", [(8, 12), (31, 29), (1, 9)])
def test_no_share_is_the_image_and_all_of_it_the_partner(size, whole):
    images, net = noise(0, 6, 1, *size), cnn((1, *size))
    seen = watched(net)
    maps = noise(1, 6, *size).softmax(-1) / size[0]
    told = SMMIX(net, step_of(images, [whole, 0.5, 0.5] * 2, maps=maps))
    wanted = images.roll(1, 0) if whole else images
    assert torch.equal(seen[-1][::3], wanted[::3])
    assert told.own_share[::3].tolist() == [1 - whole] * 2
    assert told.losses.isfinite().all()


def test_an_image_that_meets_itself_stays_as_it_is():
    images, net = noise(0, 3, 1, 8, 8), cnn()
    seen = watched(net)
    maps = noise(1, 3, 8, 8).softmax(-1) / 8
    told = SMMIX(net, step_of(images, 0.5, maps=maps, partner=[2, 1, 0]))
    assert torch.equal(seen[-1][1], images[1])
    assert told.own_share[1] == 1
    assert (told.own_share[::2] < 1).all()


@each("size", [(8, 8), (31, 31), (24, 40)])
def test_the_label_tells_how_many_pixels_are_the_partners(size):
    images = torch.tensor([0.0, 1.0] * 5)[:, None, None, None].expand(-1, 1, *size)
    net = cnn((1, *size))
    seen = watched(net)
    maps = noise(1, 10, *size).softmax(-1) / size[0]
    told = SMMIX(net, step_of(images, np.linspace(0.05, 0.9, 10), maps=maps))
    own = (seen[-1] == images).float().mean((1, 2, 3))
    assert_close(told.own_share, own, atol=1e-6, rtol=0)


# Losses ------------------------------------------------------------------------------------------


def by_hand(net, images, maps, told, *, tokens=1.0, consistency=1.0) -> Tensor:
    """The losses of images whose partners stand before them, in loops.

    Args:
        net: In training mode.
        images: (b, c, h, w).
        maps: (b, rows, columns): what the windows are chosen by.
        told: What the method said, for the sizes of the windows.
        tokens: Weight.
        consistency: Weight.
    """
    n, (rows, columns) = len(images), maps.shape[1:]
    patch = images.shape[2] // rows
    with torch.no_grad():
        clean = net.eval()(images).tolist()
    net.train()
    mixed, shown, lams = [], [], []
    for i in range(n):
        tokens_pasted = round((1 - float(told.own_share[i])) * rows * columns)
        sides = reference.forms(rows, columns)[tokens_pasted]
        source = reference.best(maps[i - 1].tolist(), sides)
        target = reference.best(maps[i].tolist(), sides, min)
        image, where = reference.pasted(
            images[i].tolist(), images[i - 1].tolist(), source, target, sides, patch
        )
        mixed.append(image)
        shown.append(where)
        lams.append(1 - sum(map(sum, where)) / (len(where) * len(where[0])))
    answers = net(torch.tensor(mixed)).tolist()
    regions = regions_of(net, torch.tensor(mixed), torch.tensor(shown))
    losses = []
    for i in range(n):
        own, partner = ([float(c == k % CLASSES) for c in range(CLASSES)] for k in (i, (i - 1) % n))
        label = [lams[i] * a + (1 - lams[i]) * b for a, b in zip(own, partner, strict=True)]
        fine = 0.0
        if lams[i] > 0:
            fine += reference.cross_entropy(regions[0][i].tolist(), own)
        if lams[i] < 1:
            fine += reference.cross_entropy(regions[1][i].tolist(), partner)
        same = reference.divergence(clean[i], clean[i - 1], lams[i], answers[i])
        whole = reference.cross_entropy(answers[i], label)
        losses.append(whole + tokens * fine / 2 + consistency * same)
    return torch.tensor(losses)


def regions_of(net, mixed, shown) -> list[Tensor]:
    """What the head of a net says of the mean place of each region, weighed by what lies there."""
    found = net.forward_features(mixed)
    if found.dim() == 3:  # 2 x 3 tokens behind those that are of no place
        found = found[:, -6:].unflatten(1, (2, 3))
    elif isinstance(net, SmallCNN):
        found = found.movedim(1, 3)
    rows, columns = found.shape[1:3]
    of_partner = shown.double().unflatten(2, (columns, -1)).unflatten(1, (rows, -1)).mean((2, 4))
    answers = []
    for weight in (1 - of_partner, of_partner):
        total = weight.sum((1, 2)).clamp(min=1e-9)
        mean = torch.einsum("bhw,bhwc->bc", weight, found.double()) / total[:, None]
        answers.append(answer_to(net, mean.float()))
    return answers


def answer_to(net, mean: Tensor) -> Tensor:
    """What the head of a net says of one place."""
    if isinstance(net, SmallCNN):
        return net.fc(mean)
    if isinstance(net, VisionTransformerDistilled):
        return (net.head(mean) + net.head_dist(mean)) / 2
    if isinstance(net, SwinTransformer):
        return net.head.fc(mean)
    return net.head(net.fc_norm(mean))


SHARES = [0.4, 0.0, 0.2, 0.6, 0.5]


@each("name", [name for name in TOKEN_NETS if name != "channels last"])
def test_the_loss_of_a_transformer_is_the_one_by_hand(name):
    net, images = vit(name), noise(4, 5, 1, *SIZE)
    told = SMMIX(net, step_of(images, SHARES))
    assert told.passes == (1, 0)
    with torch.no_grad():
        maps = attended(net, images, "mean")[1]
    assert_close(told.losses, by_hand(net, images, maps, told), atol=1e-5, rtol=1e-4)
    assert len(set(told.own_share.tolist())) > 2


@each("name", ["channels last", "class token", "convolutional"])
def test_guided_the_loss_is_the_one_by_hand(name):
    """The tokens are pixels here; those of the net are weighed by what is seen there."""
    net = without_norms(cnn((1, *SIZE))) if name == "convolutional" else vit(name)
    images, maps = noise(4, 5, 1, *SIZE), noise(5, 5, 96).softmax(1).view(5, *SIZE)
    told = SMMIX(net, step_of(images, SHARES, maps=maps))
    assert_close(told.losses, by_hand(net, images, maps, told), atol=1e-5, rtol=1e-4)
    assert told.own_share.min() < 0.6


def without_norms(net: nn.Module) -> nn.Module:
    """A net that sees an image alike in both modes and in any batch."""
    for name, layer in list(net.features.named_children()):
        if isinstance(layer, nn.BatchNorm2d):
            setattr(net.features, name, nn.Identity())
    return net


@each("weights", [(0.0, 0.0), (2.0, 0.0), (0.0, 3.0), (0.5, 0.25)])
def test_the_further_losses_have_weights(weights):
    names = ("tokens", "consistency")
    settings = dict(zip(names, weights, strict=True))
    net, images = vit(), noise(4, 5, 1, *SIZE)
    told = SMMIX(net, step_of(images, SHARES), **settings)
    with torch.no_grad():
        maps = attended(net, images, "mean")[1]
    wanted = by_hand(net, images, maps, told, **settings)
    assert_close(told.losses, wanted, atol=1e-5, rtol=1e-4)


def test_no_gradient_reaches_the_net_by_what_it_says_of_clean_images():
    net, images = vit(), noise(4, 5, 1, *SIZE)
    with_, without = (
        SMMIX(net, step_of(images, 0.5), consistency=weight).losses for weight in (1.0, 0.0)
    )
    gradients = torch.autograd.grad(
        (with_ - without).sum(), list(net.parameters()), allow_unused=True
    )
    # Of the mixed images' answers alone: at KL(p || q) the slope at q's logits is q - p.
    seen = watched(net)
    told = SMMIX(net, step_of(images, 0.5))
    answers = net(seen[-1])
    with torch.no_grad():
        clean = net(images)
        lam = told.own_share[:, None]
        wanted = (lam * clean + (1 - lam) * clean.roll(1, 0)).softmax(1)
        slope = answers.softmax(1) - wanted
    by_answers = torch.autograd.grad(answers, list(net.parameters()), slope)
    for got, one in zip(gradients, by_answers, strict=True):
        assert_close(torch.zeros_like(one) if got is None else got, one, atol=1e-6, rtol=1e-3)


def test_clean_images_leave_no_trace_and_cost_nothing_if_nobody_asks():
    net, images = cnn(), noise(4, 6, 1, 8, 8)
    maps = noise(5, 6, 8, 8).flatten(1).softmax(1).view(6, 8, 8)
    seen = watched(net)
    for consistency, passes in ((1.0, (1, 0)), (0.0, (0, 0))):
        before = {name: value.clone() for name, value in net.named_buffers()}
        told = SMMIX(net, step_of(images, 0.5, maps=maps), consistency=consistency)
        assert told.passes == passes
        assert all(one.training for one in net.modules())
        after = {name: value.clone() for name, value in net.named_buffers()}
        net.load_state_dict(before, strict=False)
        net(seen[-1])
        for name, value in net.named_buffers():
            assert torch.equal(value, after[name]), "other than one pass over the mixed images"


def test_what_the_head_draws_for_regions_moves_no_other_draws():
    net = create_classifier(
        "dropping_cnn_for_tests", num_classes=CLASSES, shape=(1, 8, 8), seed=0
    ).train()
    seen, images = watched(net), noise(4, 6, 1, 8, 8)
    maps = noise(5, 6, 64).softmax(1).view(6, 8, 8)
    states = []
    for ask in (lambda: SMMIX(net, step_of(images, 0.5, maps=maps)), lambda: net(seen[-1])):
        with borrowed_global_rng(0):
            ask()
            states.append(torch.get_rng_state())
    assert torch.equal(*states)


# What it needs -----------------------------------------------------------------------------------


def test_a_net_without_attention_needs_a_provider():
    images, labels = noise(0, 4, 1, 8, 8), torch.zeros(4, dtype=torch.int64)
    settings = tiny.trainer_settings()
    plain, guided = (MixAction.parse(text) for text in ("smmix@0.5", "smmix@0.5+cam"))
    with pytest.raises(ConfigError, match="SmallCNN has no attention") as error:
        loss_of(cnn(), images, labels, plain, num_classes=CLASSES, rng=generator(0, "mix"))
    assert "smmix@0.5+cam" in error.value.hint
    with pytest.raises(ConfigError, match="smmix needs the attention of the net"):
        check_playable(plain, settings, 10, (1, 8, 8), CPU)
    check_playable(guided, settings, 10, (1, 8, 8), CPU)
    for action in (plain, guided):
        check_playable(action, tiny.trainer_settings(model="vit_digits"), 10, (1, 8, 8), CPU)
    opaque = tiny.trainer_settings(model="dropout_cnn_for_tests")
    with pytest.raises(ConfigError, match="smmix needs the features of the net"):
        check_playable(guided, opaque, 10, (1, 8, 8), CPU)


def test_a_net_that_drops_out_is_asked_without():
    """Else equal images would not be seen alike."""
    net = create_classifier("vit_mini_patch4_32", num_classes=3, shape=(1, 8, 8), seed=0).train()
    images = torch.ones(8, 1, 8, 8)
    with borrowed_global_rng(0):
        nn.init.normal_(net.head.weight)
        assert net(images).std(0).min() > 1e-3
        looked = [module._looked(net, images, attention=asks)[0] for asks in (True, False)]
    assert_close(looked[0], looked[1], atol=1e-4, rtol=1e-4)
    assert looked[0].std(0).max() < 1e-5


def test_a_net_with_batch_norm_is_asked_as_it_trains():
    net, images = cnn(), 5 * noise(4, 6, 1, 8, 8)
    assert_close(module._looked(net, images, attention=False)[0], net(images))
