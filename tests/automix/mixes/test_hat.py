"""HAT: its passes written out one by one, what its adversary may do, and what it leaves alone."""

from __future__ import annotations

import copy
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.testing import assert_close

from automix.core.seeding import borrowed_global_rng, generator
from automix.mixes.hat import climbed, divergence, high_frequencies
from automix.mixing.actions import MixAction
from automix.mixing.batch import MixSettings
from automix.mixing.loss import loss_of
from tests.cases import each

HAT = MixAction("hat", 0.5)
FAST = ("hat.stride=0.05", "hat.limit=0.08", "hat.consistency=0.5")
"""An adversary that is seen at the size of these nets."""


def linear(classes: int = 3) -> nn.Module:
    with borrowed_global_rng(1):
        return nn.Sequential(nn.Flatten(), nn.Linear(2 * 4 * 4, classes))


def norms() -> nn.Module:
    """A net with batch norm, and dropout of nothing."""
    with borrowed_global_rng(1):
        return nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.Flatten(), nn.Linear(16, 3)
        )


def batch(n: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    draw = generator(7)
    images = torch.from_numpy(draw.standard_normal((n, 2, 4, 4)).astype("float32"))
    return images, torch.from_numpy(draw.integers(0, 3, n))


def told(net, images, labels, *options: str, action=HAT, seed=0, classes=3):
    settings = MixSettings(options=options)
    rng = generator(seed, "mix")
    return loss_of(net, images, labels, action, num_classes=classes, rng=rng, settings=settings)


def gradients(net) -> list[torch.Tensor]:
    return [one.grad.clone() for one in net.parameters()]


def twin(net, images, labels, passes=3, stride=0.05, limit=0.08, consistency=0.5):
    """Return loss, gradients and perturbations, pass by pass, as one would write it down first."""
    net.zero_grad()
    clean = copy.deepcopy(net)(images).detach().softmax(1)
    moved, total, seen = torch.zeros_like(images), torch.zeros(len(images)), []
    for number in range(passes):
        # Later passes find the batch norm as it was: only the first may move it.
        asked = net if number == 0 else copy.deepcopy(net)
        asked.zero_grad()
        x = (images + moved).clone().requires_grad_()
        p = asked(x).softmax(1)
        apart = torch.zeros(len(images))
        for i in range(len(images)):
            for k in range(p.shape[1]):
                apart[i] = apart[i] + p[i, k] * (p[i, k] / clean[i, k]).log() / 2
                apart[i] = apart[i] + clean[i, k] * (clean[i, k] / p[i, k]).log() / 2
        own = -p[torch.arange(len(images)), labels].log()
        losses = own + consistency * apart
        if number > 0:
            losses = (3 * own + consistency * apart) / (passes - 1)
        losses.mean().backward()
        total = total + losses.detach()
        found = gradients(asked)
        seen.append((moved, found))
        moved = (moved + stride * x.grad.sign()).clamp(-limit, limit)
    summed = [sum(parts) for parts in zip(*(found for _, found in seen), strict=True)]
    return total, summed, [moved for moved, _ in seen]


@each("make", [linear, norms])
@each("passes", [2, 3, 5])
def test_loss_and_slopes_are_those_of_the_passes_added_up(make, passes):
    net, (images, labels) = make(), batch()
    losses, wanted_slopes, moved = twin(copy.deepcopy(net), images, labels, passes)
    assert (moved[-1].abs() > 0.04).any(), "a twin that does not move shows nothing"
    got = told(net, images, labels, *FAST, f"hat.passes={passes}")
    got.losses.mean().backward()
    assert got.passes == (passes, passes - 1)
    assert_close(got.losses.detach(), losses, rtol=1e-4, atol=1e-5)
    for one, wanted in zip(gradients(net), wanted_slopes, strict=True):
        assert_close(one, wanted, rtol=1e-3, atol=1e-5)


def test_the_default_is_three_passes_of_the_papers_strides():
    net, (images, labels) = linear(), batch()
    losses, wanted_slopes, _ = twin(copy.deepcopy(net), images, labels, 3, 1 / 255, 2 / 255, 0.01)
    got = told(net, images, labels)
    got.losses.mean().backward()
    assert got.passes == (3, 2)
    assert torch.equal(got.own_share, torch.ones(5)), "all content is the image's own"
    assert_close(got.losses.detach(), losses, rtol=1e-5, atol=1e-6)
    for one, wanted in zip(gradients(net), wanted_slopes, strict=True):
        assert_close(one, wanted, rtol=1e-4, atol=1e-6)


def test_without_room_it_is_the_clean_loss_four_times():
    """CE once and 3 / (K - 1) of it K - 1 times; the divergence of an answer to itself is 0."""
    net, (images, labels) = linear(), batch()
    got = told(net, images, labels, "hat.limit=0")
    plain = F.cross_entropy(net(images), labels, reduction="none")
    assert_close(got.losses, 4 * plain)
    wanted = torch.autograd.grad(4 * plain.mean(), list(net.parameters()))
    got.losses.mean().backward()
    for one, slope in zip(gradients(net), wanted, strict=True):
        assert_close(one, slope)


def test_a_linear_net_loses_what_the_slopes_say():
    """One weight a pixel: the adversary moves each pixel against its weight, by hand."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(32, 2, bias=False))
    with torch.no_grad():
        net[1].weight.zero_()
        net[1].weight[0] = 0.1 * (-1.0) ** torch.arange(32)
    images, labels = torch.zeros(2, 2, 4, 4), torch.tensor([0, 1])
    options = "hat.stride=0.05", "hat.limit=0.08", "hat.consistency=0"
    got = told(net, images, labels, *options, classes=2).losses
    # d is 0, 0.05 and 0.08 (cut) per pixel, the margin falls by 32 * 0.1 of it.
    margins = [0.0, 3.2 * 0.05, 3.2 * 0.08]
    each = [math.log1p(math.exp(margin)) for margin in margins]
    assert_close(got.detach(), torch.full((2,), each[0] + 1.5 * (each[1] + each[2])))


# The adversary -----------------------------------------------------------------------------------


@each("cutoff", [0.0, 0.3, 0.8])
def test_it_stays_in_its_box_and_climbs_a_linear_slope(cutoff):
    slope = torch.from_numpy(generator(2).standard_normal((4, 3, 8, 9)).astype("float32"))
    moved = torch.zeros_like(slope)
    for _ in range(6):
        before, moved = moved, climbed(moved, slope, 0.3, 1.0, cutoff)
        assert not torch.equal(before, moved) or cutoff == 0
        assert float(moved.abs().max()) <= 1 + 1e-6
        assert (moved * slope).sum((1, 2, 3)).min() > 0
    if cutoff == 0:
        assert torch.equal(moved, slope.sign()), "it is in the corner of the box at last"


@each("size", [(8, 8), (8, 9), (7, 6)])
@each("cutoff", [0.25, 0.5, 0.9])
def test_below_the_cutoff_it_has_no_energy(cutoff, size):
    slope = torch.from_numpy(generator(2).standard_normal((4, 3, *size)).astype("float32")) + 0.5
    moved = climbed(torch.zeros_like(slope), slope, 0.6, 1.0, cutoff)
    moved = climbed(moved, slope, 0.6, 1.0, cutoff)
    energy = torch.fft.fft2(moved.double()).abs().square()
    rows, columns = (torch.fft.fftfreq(side).abs() * 2 for side in size)
    low = (rows[:, None] <= cutoff) & (columns <= cutoff)
    assert low.any()
    assert not low.all()
    assert energy[..., low].max() < 1e-6 * energy.sum() < energy[..., ~low].sum()
    assert float(moved.abs().max()) <= 1 + 1e-6


def test_a_filter_leaves_a_wave_above_it_and_takes_one_below():
    x = torch.arange(8.0)
    low, high = torch.cos(2 * math.pi * x / 8), torch.cos(2 * math.pi * x * 3 / 8)
    image = (1 + low + high).expand(1, 1, 8, 8)
    # A quarter of a cycle is half of the highest: 1 / 8 lies below, 3 / 8 above.
    assert_close(high_frequencies(image, 0.5), high.expand(1, 1, 8, 8), atol=1e-6, rtol=0)


def test_with_a_cutoff_another_loss_is_trained_and_it_is_not_less_than_the_clean_one():
    net, (images, labels) = linear(), batch()
    whole = told(net, images, labels, *FAST[:2], "hat.consistency=0").losses
    high = told(net, images, labels, *FAST[:2], "hat.consistency=0", "hat.cutoff=0.4").losses
    clean = told(net, images, labels, "hat.limit=0", "hat.consistency=0").losses
    assert (high > clean).all()
    assert (whole > high).all()


def test_the_divergence_is_symmetric_and_none_of_equal_answers():
    one, two = (torch.tensor([p]).log() for p in ([0.5, 0.5], [0.25, 0.75]))
    assert_close(divergence(one, two), torch.tensor([math.log(3) / 8]))  # by hand
    assert_close(divergence(one, two), divergence(two, one))
    assert_close(divergence(one, one), torch.zeros(1))


# What it leaves alone ----------------------------------------------------------------------------


def test_running_statistics_are_those_of_one_plain_step():
    net, plain, (images, labels) = norms(), norms(), batch()
    told(net, images, labels, *FAST).losses.mean().backward()
    plain(images)
    for name, value in plain.named_buffers():
        assert_close(dict(net.named_buffers())[name], value)


def test_the_ratio_does_not_matter():
    net, (images, labels) = linear(), batch()
    little = told(net, images, labels, *FAST, action=MixAction("hat", 0.1), seed=4)
    assert torch.equal(little.losses, told(net, images, labels, *FAST).losses)


def test_frozen_weights_and_weights_out_of_use_are_left_alone():
    net, (images, labels) = norms(), batch()
    net[0].weight.requires_grad_(False)
    net.spare = nn.Identity()
    net.spare.weight = nn.Parameter(torch.ones(2))
    net.forward = lambda images: nn.Sequential(*list(net)[:5])(images)
    told(net, images, labels, *FAST).losses.mean().backward()
    assert net[0].weight.grad is None
    assert net[4].weight.grad.abs().sum() > 0
    assert net.spare.weight.grad is None or not net.spare.weight.grad.any()
