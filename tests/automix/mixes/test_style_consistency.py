"""Style consistency: its loss by hand, its views, and what it leaves alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn as nn
from torch.testing import assert_close

from automix.core.seeding import borrowed_global_rng, generator
from automix.masks.method_steps import Step
from automix.masks.pairing import pair_batches
from automix.mixes.style_consistency import disagreement, restyled, second_partner
from automix.mixing.actions import MixAction
from automix.mixing.batch import MixSettings
from automix.mixing.loss import drawn_step, loss_of
from tests.cases import each
from tests.references import styles as reference

STYLE = MixAction("style_consistency", 0.5)


def net_of(classes: int = 3) -> nn.Module:
    with borrowed_global_rng(1):
        return nn.Sequential(nn.Flatten(), nn.Linear(2 * 4 * 4, classes))


def batch(n: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    draw = generator(7)
    images = torch.from_numpy(draw.standard_normal((n, 2, 4, 4)).astype("float32")) + 3
    return images, torch.from_numpy(draw.integers(0, 3, n))


def step_of(images: torch.Tensor, ratio: float = 0.5, seed: int = 0) -> Step:
    targets = torch.eye(3)[torch.arange(len(images)) % 3]
    action = MixAction("style_consistency", ratio)
    return drawn_step(images, targets, action, generator(seed, "mix"))


def told(net, images, labels, *options: str, action=STYLE, seed=0):
    settings, rng = MixSettings(options=options), generator(seed, "mix")
    return loss_of(net, images, labels, action, num_classes=3, rng=rng, settings=settings)


# The divergence ----------------------------------------------------------------------------------


def test_equal_answers_do_not_disagree_and_sure_ones_do_by_ln_3():
    equal = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(0)).log_softmax(2)
    assert_close(disagreement(equal.repeat(3, 1, 1)), torch.zeros(4), atol=1e-6, rtol=0)
    sure = torch.full((3, 1, 3), -40.0)
    sure[range(3), 0, range(3)] = 0.0
    assert_close(disagreement(sure), torch.tensor([math.log(3)]))


def test_three_answers_by_hand_in_any_order():
    """(1/2, 1/2) twice and (1/8, 7/8): their mean is (3/8, 5/8)."""
    logs = torch.tensor([[[0.5, 0.5]], [[0.5, 0.5]], [[0.125, 0.875]]]).log()

    def entropy(p: float) -> float:
        return -p * math.log(p) - (1 - p) * math.log(1 - p)

    wanted = entropy(3 / 8) - (2 * entropy(1 / 2) + entropy(1 / 8)) / 3
    assert wanted > 0.05
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        assert_close(disagreement(logs[order]), torch.tensor([wanted]))


# The views ---------------------------------------------------------------------------------------


@each("style", ["statistics", "amplitude"])
def test_views_are_those_of_the_slow_twins_of_the_style_mixes(style):
    images, _ = batch()
    step = step_of(images)
    views = restyled(step, style)
    second = second_partner(step.pairs.partner, _rng_after_the_share())
    for view, partners in zip(views, (step.pairs.partner, second), strict=True):
        for i, j in enumerate(partners.tolist()):
            for channel in range(2):
                own, partner = images[i, channel].tolist(), images[j, channel].tolist()
                if style == "statistics":
                    wanted = reference.mixstyle(own, partner, float(step.share[i]))
                else:
                    share = float(step.share[i])
                    wanted = reference.mixed_amplitude(own, partner, share, reach=1)
                assert_close(view[i, channel], torch.tensor(wanted), atol=2e-4, rtol=0)
    assert (views[0] - views[1]).abs().amax((1, 2, 3)).min() > 0.01


def _rng_after_the_share() -> np.random.Generator:
    rng = generator(0, "mix")
    drawn_step(batch()[0], torch.eye(3), STYLE, rng)
    return rng


@each("pairing", ["roll", "derange", "flip", "permute"])
@each("b", [3, 4, 9])
def test_the_second_partner_is_any_other_image(pairing, b):
    rng, met = generator(0), np.zeros((b, b), int)
    for _ in range(400):
        first = pair_batches(b, b, pairing, rng).partner
        second = second_partner(first, rng)
        assert (second != np.arange(b)).all()
        assert (second != first).all()
        assert second.min() >= 0
        assert second.max() < b
        met[np.arange(b), second] += 1
    if pairing == "derange":
        others = met[~np.eye(b, dtype=bool)] / 400
        assert np.allclose(others, 1 / (b - 1), atol=0.12)


@each("b", [1, 2])
def test_a_batch_too_small_for_a_second_partner_has_the_first_again(b):
    first = pair_batches(b, b, "roll", generator(0)).partner
    assert second_partner(first, generator(0)).tolist() == first.tolist()
    images, labels = batch(b)
    assert told(net_of(), images, labels).losses.isfinite().all()


# The step ----------------------------------------------------------------------------------------


@each("weight", [0.0, 2.5])
def test_the_loss_is_the_mean_cross_entropy_and_the_weighed_divergence(weight):
    net, (images, labels) = net_of(), batch()
    got = told(net, images, labels, f"style_consistency.weight={weight}")
    with torch.no_grad():
        logs = [
            net(view).log_softmax(1) for view in (images, *restyled(step_of(images), "statistics"))
        ]
    for i, label in enumerate(labels.tolist()):
        cross = -sum(float(one[i, label]) for one in logs) / 3
        mean = sum(one[i].exp() for one in logs) / 3
        apart = sum(float((one[i].exp() * (one[i] - mean.log())).sum()) for one in logs) / 3
        assert float(got.losses[i].detach()) == pytest.approx(cross + weight * apart, rel=1e-4)
    got.losses.mean().backward()
    assert net[1].weight.grad.abs().sum() > 0


def test_the_usual_weight_is_augmixs_and_the_usual_style_the_statistics():
    net, (images, labels) = net_of(), batch()
    given = "style_consistency.weight=12", 'style_consistency.style="statistics"'
    assert torch.equal(told(net, images, labels).losses, told(net, images, labels, *given).losses)
    other = told(net, images, labels, "style_consistency.style=amplitude").losses
    assert not torch.allclose(other, told(net, images, labels).losses)


def test_images_of_one_style_have_the_plain_loss():
    """Each image is another's pixels in another order, so that the statistics are the same."""
    net, (images, labels) = net_of(), batch()
    order = [torch.from_numpy(generator(i).permutation(16)) for i in range(5)]
    alike = torch.stack([images[0].flatten(1)[:, one].view(2, 4, 4) for one in order])
    plain = nn.functional.cross_entropy(net(alike), labels, reduction="none")
    assert_close(told(net, alike, labels).losses, plain, rtol=1e-4, atol=1e-5)


def test_one_pass_goes_over_three_times_the_images():
    seen = []

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net_of()

        def forward(self, images):
            seen.append(len(images))
            return self.net(images)

    images, labels = batch()
    got = told(Net(), images, labels)
    assert seen == [15]
    assert got.passes == (2, 2)
    assert torch.equal(got.own_share, torch.ones(5))


def test_a_larger_ratio_goes_further_to_other_styles():
    images = batch(64)[0]
    far = [
        torch.stack([(view - images).abs().mean() for view in restyled(step, "statistics")]).sum()
        for step in (step_of(images, 0.05), step_of(images, 0.5))
    ]
    assert far[1] > 2 * far[0]


def test_another_draw_is_another_step():
    net, (images, labels) = net_of(), batch()
    one, other = (told(net, images, labels, seed=seed).losses for seed in (1, 2))
    assert not torch.equal(one, other)


def test_amplitudes_are_taken_on_in_half_precision_too():
    """The usual style is tried by the contract."""
    net, (images, labels) = net_of(), batch()
    with torch.autocast("cpu", torch.bfloat16):
        got = told(net, images, labels, "style_consistency.style=amplitude")
    assert got.losses.dtype == torch.float32
    got.losses.mean().backward()
    assert all(bool(weight.grad.isfinite().all()) for weight in net.parameters())
