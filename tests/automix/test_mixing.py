"""The ratio law, targets, pairs of batches, settings, and what one call of ``mix_batch`` asks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from automix.actions import MixAction
from automix.errors import ConfigError
from automix.mixes.rmix import _row_quantile, _tilted
from automix.mixing import (
    MixSettings,
    as_targets,
    batch_pairs,
    blend,
    blend_targets,
    draw_share,
    mix_batch,
)
from automix.models import create_classifier
from automix.saliency import SALIENCY
from automix.seeding import generator
from tests.contract import CUTMIX, Case, mix, noise_images
from tests.references import rmix as rmix_reference
from tests.strategies import SEEDS


@pytest.mark.parametrize("ratio", [0.02, 0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("concentration", [0.4, 2.0, 8.0])
def test_the_partner_share_follows_the_beta_law(ratio, concentration):
    share = draw_share(ratio, 5000, generator(3), concentration).double().numpy()
    law = scipy.stats.beta(concentration * ratio, concentration * (1 - ratio))
    assert abs(share.mean() - ratio) < 3 * law.std() / 5000**0.5
    assert abs(share.std() / law.std() - 1) < 0.08
    # Float32 rounds draws near 0 and 1: the distance of the laws is taken where it does not.
    points = np.linspace(0.01, 0.99, 50)
    distance = abs((share[:, None] <= points).mean(0) - law.cdf(points)).max()
    assert distance < 1.6 / 5000**0.5  # Kolmogorov-Smirnov at 1 %


def test_at_one_half_the_law_is_the_papers_uniform_one():
    share = draw_share(0.5, 5000, generator(0)).numpy()
    assert scipy.stats.kstest(share, "uniform").pvalue > 0.01


@pytest.mark.parametrize("whole", [0.0, 1.0])
def test_nothing_and_all_are_exact(whole):
    share = draw_share(whole, 5, generator(0))
    assert share.dtype == torch.float32
    assert share.tolist() == [whole] * 5


@given(ratio=st.floats(1e-9, 1 - 1e-9), c=st.floats(1e-3, 1e4), seed=SEEDS)
def test_a_share_is_a_share_whatever_the_law(ratio, c, seed):
    share = draw_share(ratio, 20, generator(seed), c)
    assert bool(((share >= 0) & (share <= 1)).all())


def test_targets_of_classes_are_one_hot_and_smoothing_spreads_its_mass_evenly():
    labels = torch.tensor([2, 0])
    assert as_targets(labels, 3).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert_close(as_targets(labels, 4, 0.2)[0], torch.tensor([0.05, 0.05, 0.85, 0.05]))
    assert_close(as_targets(labels.to(torch.uint8), 4, 0.2).sum(1), torch.ones(2))


def test_targets_that_are_soft_already_pass_through():
    soft = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    assert torch.equal(as_targets(soft, 2), soft)
    assert as_targets(soft.double(), 2).dtype == torch.float32
    assert_close(as_targets(soft, 2, 0.1), torch.tensor([[0.275, 0.725], [0.95, 0.05]]))


@given(seed=SEEDS, smoothing=st.floats(0, 0.9))
def test_smoothing_before_mixing_is_smoothing_after_it(seed, smoothing):
    rng = generator(seed)
    targets = torch.from_numpy(rng.dirichlet(np.ones(3), 4).astype(np.float32))
    lam, partner = torch.from_numpy(rng.random(4, dtype=np.float32)), torch.tensor([1, 2, 3, 0])
    before = blend_targets(as_targets(targets, 3, smoothing), partner, lam)
    after = as_targets(blend_targets(targets, partner, lam), 3, smoothing)
    assert_close(before, after)


@given(n=st.integers(1, 20), batch_size=st.integers(1, 25), seed=SEEDS)
def test_images_are_paired_within_their_batch(n, batch_size, seed):
    partner, batch = batch_pairs(n, batch_size, "permute", generator(seed))
    assert batch.tolist() == [i // batch_size for i in range(n)]
    assert sorted(partner) == list(range(n))
    assert (batch[partner] == batch).all()


@given(seed=SEEDS)
def test_a_blend_is_exact_where_the_mask_is_nothing_or_all(seed):
    rng = generator(seed)
    images = torch.from_numpy(rng.normal(0, 1e3, (4, 2, 5, 3)))
    mask = torch.from_numpy(rng.integers(0, 2, (4, 1, 5, 3)).astype(np.float32))
    partner = torch.tensor([3, 2, 1, 0])
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        one = images.to(dtype)
        mixed = blend(one, partner, mask)
        assert mixed.dtype == dtype
        assert torch.equal(mixed, torch.where(mask > 0, one[partner], one))


@given(seed=SEEDS, n=st.sampled_from([4, 16, 7, 1]))
def test_each_row_has_its_own_quantile(seed, n):
    rng = generator(seed)
    rows = torch.from_numpy(rng.random((10, n), dtype=np.float32))
    q = torch.from_numpy(np.append(rng.random(8), [0.0, 1.0]).astype(np.float32))
    got = _row_quantile(rows, q)
    for i in range(10):
        assert_close(got[i], torch.quantile(rows[i], q[i]))
        assert float(got[i]) == pytest.approx(
            rmix_reference.quantile(rows[i].tolist(), float(q[i])), abs=1e-5
        )


@pytest.mark.parametrize("tilt", [0.0, 0.1, 0.5, 0.7, 1.0])
def test_percentiles_are_tilted_by_odds_and_one_half_keeps_them(tilt):
    q = np.array(rmix_reference.PERCENTILES)
    tilted = _tilted(q, tilt)
    if tilt == 0.5:
        np.testing.assert_allclose(tilted, q, atol=1e-12)
    if tilt > 0:
        np.testing.assert_allclose(tilted, [rmix_reference.tilted(x, tilt) for x in q], atol=1e-9)
    assert ((tilted >= 0) & (tilted <= 1)).all()


@pytest.mark.parametrize(
    ("bad", "names"),
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


def test_an_action_that_mixes_nothing_keeps_image_and_label_whatever_ratio_it_names():
    for action in (("none", 0.5), ("none", 0.0), ("cutmix", 0.0), ("rmix", 0.0, "gradient")):
        mixed = batch(action)
        assert torch.equal(mixed.targets, torch.eye(6))
        assert torch.equal(mixed.images, noise_images(Case(form=CUTMIX, b=6)))
        assert not mixed.mask.any()


def test_a_provider_that_needs_a_classifier_says_so():
    with pytest.raises(ConfigError, match="saliency 'gradient' needs a classifier"):
        batch(("cutmix", 0.5, "gradient"))


@pytest.mark.parametrize("provider", list(SALIENCY))
@pytest.mark.parametrize("method", ["mixup", "cutmix", "rmix"])
def test_maps_are_computed_by_the_actions_provider_if_none_are_given(provider, method):
    net = create_classifier("small_cnn_w8", num_classes=6, shape=(3, 8, 12), seed=0).eval()
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


def test_settings_reach_the_draws():
    case = Case(form=CUTMIX, b=300, rule="requested", size=(4, 4))
    narrow = replace(case.settings, concentration=500.0)
    lam = mix(case, noise_images(case), settings=narrow).lam
    assert float((lam - 0.5).abs().max()) < 0.1
