"""The ratio law, pairs of batches, settings, and what one call of ``mix_batch`` asks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from automix.core.errors import ConfigError
from automix.core.seeding import generator
from automix.mixing.actions import MixAction
from automix.mixing.batch import MixSettings, draw_share, mix_batch
from automix.nets.create import create_classifier
from automix.saliency import SALIENCY, only_in_training
from tests.automix.saliency.planted import models_for
from tests.cases import each
from tests.contract import CUTMIX, Case, mix, noise_images
from tests.strategies import SEEDS


@each("ratio", [0.02, 0.1, 0.3, 0.5, 0.9])
@each("concentration", [0.4, 2.0, 8.0])
def test_the_partner_share_follows_the_beta_law(ratio, concentration):
    share = draw_share(ratio, 5000, generator(3), concentration).astype(np.float64)
    law = scipy.stats.beta(concentration * ratio, concentration * (1 - ratio))
    assert abs(share.mean() - ratio) < 3 * law.std() / 5000**0.5
    assert abs(share.std() / law.std() - 1) < 0.08
    # Float32 rounds draws near 0 and 1: the distance of the laws is taken where it does not.
    points = np.linspace(0.01, 0.99, 50)
    distance = abs((share[:, None] <= points).mean(0) - law.cdf(points)).max()
    assert distance < 1.6 / 5000**0.5  # Kolmogorov-Smirnov at 1 %


def test_at_one_half_the_law_is_the_papers_uniform_one():
    share = draw_share(0.5, 5000, generator(0))
    assert scipy.stats.kstest(share, "uniform").pvalue > 0.01


@each("whole", [0.0, 1.0])
def test_nothing_and_all_are_exact(whole):
    share = draw_share(whole, 5, generator(0))
    assert share.dtype == np.float32
    assert share.tolist() == [whole] * 5


@given(ratio=st.floats(1e-9, 1 - 1e-9), c=st.floats(1e-3, 1e4), seed=SEEDS)
def test_a_share_is_a_share_whatever_the_law(ratio, c, seed):
    share = draw_share(ratio, 20, generator(seed), c)
    assert bool(((share >= 0) & (share <= 1)).all())


@each(
    "bad, names",
    [
        ({"concentration": 0.0}, "concentration is 0.0"),
        ({"concentration": float("nan")}, "concentration is nan"),
        ({"concentration": float("inf")}, "concentration is inf"),
        ({"mix_probability": 1.1}, "mix_probability is 1.1"),
        ({"mix_probability": -0.1}, "mix_probability is -0.1"),
        ({"share_per": "pixel"}, "share_per is 'pixel'"),
        ({"pairing": "flop"}, "Did you mean 'flip'"),
        ({"label_rule": "aera"}, "Did you mean 'area'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(bad, names):
    with pytest.raises(ConfigError) as error:
        MixSettings(**bad)
    assert names in error.value.message


def batch(action, **options):
    case = Case(form=CUTMIX, b=6)
    options = {"num_classes": 6, "rng": generator(0)} | options
    return mix_batch(noise_images(case), torch.arange(6), MixAction(*action), **options)


def test_a_place_that_is_not_like_the_images_is_refused():
    images = noise_images(Case(form=CUTMIX, b=6))
    for out in (images.double(), images[:5].clone(), images.flatten(2)):
        with pytest.raises(ConfigError, match="wanted that of the images"):
            batch(("cutmix", 0.5), out=out)


@each("pairing", ["roll", "derange"])
def test_a_gradient_flows_through_the_blend(pairing):
    images = noise_images(Case(form=CUTMIX, b=6)).requires_grad_()
    out = torch.empty_like(images)
    for place in (None, out.detach()):
        mixed = batch(("mixup", 0.5), out=place, settings=MixSettings(pairing=pairing))
        shown = mix_batch(
            images,
            torch.arange(6),
            MixAction("mixup", 0.5),
            num_classes=6,
            rng=generator(0),
            settings=MixSettings(pairing=pairing),
            out=place,
        )
        assert_close(shown.images, mixed.images)
        (slope,) = torch.autograd.grad(shown.images.sum(), images)
        # Each image gives lam of itself to itself, and the rest of its successor to that one.
        given_away = torch.zeros(6).scatter_add(0, shown.partner, 1 - shown.lam)
        assert_close(slope[:, 0, 0, 0], shown.lam + given_away)


def test_a_provider_that_needs_a_classifier_says_so():
    with pytest.raises(ConfigError, match="saliency 'gradient' needs a classifier"):
        batch(("cutmix", 0.5, "gradient"))


ALONE = [entry.name for entry in SALIENCY.entries() if not only_in_training(entry.name)]


@each("provider", ALONE)
@each("method", ["mixup", "cutmix", "rmix"])
def test_maps_are_computed_by_the_actions_provider_if_none_are_given(provider, method):
    model = models_for(provider)[0]
    net = create_classifier(model, num_classes=6, shape=(3, 8, 12), seed=0).eval()
    images = noise_images(Case(form=CUTMIX, b=6))
    maps = SALIENCY[provider](images, torch.eye(6), net)
    computed = batch((method, 0.5, provider), classifier=net)
    handed = batch((method, 0.5, provider), saliency=maps)
    assert torch.equal(computed.mask, handed.mask)
    assert torch.equal(computed.images, handed.images)
    assert not torch.equal(
        computed.mask, batch((method, 0.5, provider), saliency=maps.flip(0)).mask
    )


def test_several_batches_at_once_are_independent_batches():
    """Each pairs within itself, and shares drawn per batch are one per batch."""
    case = Case(form=CUTMIX, b=9, share_per="batch", rule="requested")
    mixed = mix(case, noise_images(case), batch_size=4)
    assert (mixed.partner // 4).tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2]
    assert [len(part.unique()) for part in mixed.lam.split(4)] == [1, 1, 1]
    assert len(mixed.lam.unique()) == 3
    assert all((part == part[:1]).all() for part in mixed.mask.split(4)), "one box for each"
    assert len(mixed.mask.flatten(1).unique(dim=0)) == 3


def test_a_batch_that_shares_its_draw_is_guided_image_by_image():
    case = Case(form=replace(CUTMIX, guided=True), b=9, share_per="batch", rule="requested")
    mixed = mix(case, noise_images(case), batch_size=4)
    assert len(mixed.lam.unique()) == 3
    assert len(mixed.mask.flatten(1).unique(dim=0)) > 3


@each("own, settings, together", [(0.5, 1.0, 0.5), (1.0, 0.5, 0.5), (0.5, 0.5, 0.25)])
def test_the_probabilities_of_action_and_settings_multiply(own, settings, together):
    images, labels = torch.rand(40, 1, 6, 6), torch.arange(40) % 4

    def mixed(action: MixAction, probability: float):
        return mix_batch(
            images,
            labels,
            action,
            num_classes=4,
            rng=generator(3, "probability"),
            settings=MixSettings(mix_probability=probability),
            batch_size=2,
        )

    got = mixed(MixAction("mixup", 0.5, mix_probability=own), settings)
    wanted = mixed(MixAction("mixup", 0.5), together)
    assert torch.equal(got.images, wanted.images)
    assert torch.equal(got.targets, wanted.targets)
    share = float((got.lam.view(20, 2) < 1).any(1).float().mean())
    assert share == pytest.approx(together, abs=0.25)
    assert 0 < share < 1
