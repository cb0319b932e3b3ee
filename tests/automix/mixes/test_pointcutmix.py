"""PointCutMix: points replaced by those of another cloud that they are matched with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from automix.core.errors import ConfigError
from automix.core.seeding import generator
from automix.masks.pairing import pair_batches
from automix.mixes import MixInputs
from automix.mixes.pointcutmix import pointcutmix
from automix.mixing.actions import MixAction
from automix.mixing.batch import mix_batch
from tests.automix.mixes.drawing import mixed, noise
from tests.cases import each
from tests.references import pointcutmix as reference

R = ["pointcutmix.nearest=false"]


def shapes(clouds: int, points: int) -> torch.Tensor:
    """Spheres of radius 1 and cubes of half a side 1 by turns, (clouds, points, 3)."""
    sphere = F.normalize(noise(0, clouds, points, 3), dim=2)
    cube = noise(1, clouds, points, 3)
    cube = cube / cube.abs().amax(2, keepdim=True)
    return torch.where(torch.arange(clouds)[:, None, None] % 2 == 0, sphere, cube)


def drawn(share, clouds, saliency=None, **settings):
    u, points = clouds.shape[:2]
    pairs = pair_batches(u, u, "roll", generator(0))
    share = np.full(u, share, np.float32)
    draw = MixInputs(share, (points, 1), 0.5, generator(0, "mask"), images=clouds, pairs=pairs)
    if saliency is not None:
        draw = replace(draw, own=saliency, partner=saliency.roll(1, 0))
    return pointcutmix(draw, **settings)


def test_points_are_matched_as_the_slow_twin_does():
    clouds = noise(0, 6, 6, 3)
    order = drawn(0.5, clouds).partner.order
    for i in range(6):
        assert tuple(order[i]) == reference.matched(clouds[i].tolist(), clouds[i - 1].tolist())


@each("options", [[], R])
def test_a_share_of_the_points_is_replaced_by_their_matches(options):
    clouds = shapes(8, 40)
    before = clouds.clone()
    result = mixed("pointcutmix", clouds, options=options)
    assert result.images.shape == clouds.shape
    assert result.images.is_contiguous()
    assert torch.equal(clouds, before)
    for i, j in enumerate(result.partner.tolist()):
        replaced = result.mask[i, 0, :, 0].bool()
        count = int(replaced.sum())
        assert count == round(40 * float(result.record.share[i]))
        assert torch.equal(result.images[i][~replaced], clouds[i][~replaced])
        theirs = result.images[i][replaced]
        assert len(theirs.unique(dim=0)) == count
        assert bool((torch.cdist(theirs, clouds[j]).amin(1) < 1e-3).all())
        assert_close(result.targets[i, i], torch.tensor(1 - count / 40))
        assert_close(result.targets[i, j], torch.tensor(count / 40))


def test_the_points_replaced_are_neighbours_of_one_or_random_ones():
    clouds = noise(0, 30, 12, 3)
    near = drawn(0.4, clouds).mask.dense(clouds.device)[:, 0, :, 0]
    loose = drawn(0.4, clouds, nearest=False).mask.dense(clouds.device)[:, 0, :, 0]
    balls = [[reference.nearest(cloud, i, 5) for i in range(12)] for cloud in clouds.tolist()]

    def are_balls(masks):
        chosen = [set(one.nonzero()[:, 0].tolist()) for one in masks]
        return [one in around for one, around in zip(chosen, balls, strict=True)]

    assert all(are_balls(near))
    assert sum(are_balls(loose)) < 10
    assert len(loose.unique(dim=0)) > 25, "each cloud has its own random points"
    assert_close(loose.mean(0), torch.full((12,), 5 / 12), atol=0.35, rtol=0)


def test_guided_points_are_matches_of_salient_ones():
    """One half of the partner's points has all the saliency; nothing else says which half."""
    clouds = noise(0, 20, 10, 3)
    saliency = torch.zeros(20, 10, 1)
    saliency[:, :5] = 0.2
    recipe = drawn(0.5, clouds, saliency, nearest=False)
    replaced = recipe.mask.dense(clouds.device)[:, 0, :, 0].bool()
    matched_with = torch.from_numpy(recipe.partner.order)
    assert bool(((matched_with < 5) == replaced).all())
    maps = recipe.partner.maps(saliency, saliency.roll(1, 0))[:, :, 0]
    assert bool(((maps > 0) == replaced).all())
    centres = drawn(0.1, clouds, saliency).mask.dense(clouds.device)[:, 0, :, 0].bool()
    assert bool((matched_with[centres] < 5).all())


def test_nothing_and_all_of_a_share_are_exact():
    clouds = shapes(4, 9)
    for nearest in (True, False):
        assert not drawn(0.0, clouds, nearest=nearest).mask.dense(clouds.device).any()
        recipe = drawn(1.0, clouds, nearest=nearest)
        assert bool((recipe.mask.dense(clouds.device) == 1).all())


def test_a_place_for_the_result_and_a_cloud_alone():
    clouds = shapes(5, 9)
    out = torch.empty_like(clouds)
    result = mixed("pointcutmix", clouds, out=out)
    assert result.images is out
    assert torch.equal(out, mixed("pointcutmix", clouds).images)
    assert torch.equal(mixed("pointcutmix", clouds, batch_size=4).images[4], clouds[4])


def test_a_broken_cloud_breaks_nobody_but_those_who_meet_it():
    images = shapes(4, 6)
    images[1] = torch.nan
    result = mixed("pointcutmix", images, rng=generator(0))
    assert result.targets.isfinite().all()
    assert result.images[[0, 3]].isfinite().all()


def test_what_mixes_images_and_what_mixes_clouds_refuse_each_other():
    with pytest.raises(ConfigError, match="pointcutmix mixes point clouds"):
        mixed("pointcutmix", noise(0, 4, 3, 8, 8))
    with pytest.raises(ConfigError, match="cutmix mixes images"):
        mixed("cutmix", shapes(4, 9))


def test_a_small_point_net_learns_a_step_from_mixed_shapes():
    """Features of each point, their maximum, a class: sphere or cube."""
    clouds, labels = shapes(32, 64), torch.arange(32) % 2
    weights = [noise(2, 3, 32) / 2, noise(3, 32, 2) / 6]
    for weight in weights:
        weight.requires_grad_()
    result = mix_batch(
        clouds, labels, MixAction("pointcutmix", 0.5), num_classes=2, rng=generator(0)
    )
    assert 0.2 < float(result.targets[:, 1].std()) < 0.5

    def loss():
        features = (result.images @ weights[0]).relu().amax(1)
        return F.cross_entropy(features @ weights[1], result.targets)

    before = loss()
    before.backward()
    assert all(bool(weight.grad.any()) for weight in weights)
    with torch.no_grad():
        for weight in weights:
            weight -= 0.1 * weight.grad
        assert float(loss()) < float(before.detach()) - 1e-3
