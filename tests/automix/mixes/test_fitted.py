"""One box of an image fitted into another: ResizeMix, asymmetric CutMix, the soft crop."""

from __future__ import annotations

import numpy as np
import torch
from torch.testing import assert_close

from automix.core.seeding import generator
from automix.labels import LABEL_RULES, LabelInfo
from automix.masks.shapes import Boxes
from automix.masks.warps import Fitted
from automix.mixing.batch import MixSettings
from tests.automix.mixes.drawing import SIZES, boxes, mixed, noise, recipe_of
from tests.cases import each
from tests.references import warps as reference

FITTED = ["resizemix", "asymmetric_cutmix"]


@each("size", SIZES)
@each("method", FITTED)
def test_the_box_covers_the_share_but_for_half_a_column(method, size):
    share = np.linspace(0, 1, 400)
    box = recipe_of(method, share, size).mask
    rows = np.maximum(box.end - box.first, 1)[:, 0]
    assert (abs(box.area() - share) <= rows / 2 / (size[0] * size[1]) + 1e-6).all()
    assert box.area()[0] == 0
    assert box.area()[-1] == 1
    if size == (24, 40):  # of the image's shape
        tall, wide = (box.end - box.first)[80:].T / np.array(size)[:, None]
        assert abs(tall - wide).max() < 0.06


@each("method", FITTED)
def test_the_box_is_anywhere_inside_the_image(method):
    box = recipe_of(method, np.full(2000, 0.25), (8, 12)).mask
    assert (box.end - box.first == [4, 6]).all()
    places, count = np.unique(box.first, axis=0, return_counts=True)
    assert len(places) == 5 * 7
    assert count.max() < 2 * count.min() + 20


@each("method", FITTED)
def test_pixels_are_those_of_the_slow_twin(method):
    images = noise(0, 12, 2, 9, 7)
    size, share = (9, 7), np.linspace(0.05, 1, 12)
    recipe = recipe_of(method, share, size)
    shown = recipe.partner(images, images)
    twin = reference.linear if recipe.partner.smooth else reference.nearest
    sources, targets = boxes(recipe.partner.source), boxes(recipe.partner.target)
    assert targets == boxes(recipe.mask)
    for i in range(12):
        for channel in range(2):
            wanted = twin(images[i, channel].tolist(), sources[i], targets[i])
            got = [shown[i, channel, y, x] for y, x in wanted]
            assert_close(torch.stack(got), torch.tensor(list(wanted.values())), atol=1e-5, rtol=0)


def test_resizemix_shows_the_whole_partner_and_a_scope_limits_its_side():
    share = np.array([0, 0.001, 0.2, 0.9, 1])
    recipe = recipe_of("resizemix", share, (20, 20), scope=(0.1, 0.8))
    assert boxes(recipe.partner.source) == [(0, 0, 20, 20)] * 5
    wanted = [0, 2, 9, 16, 20]
    assert (recipe.mask.end - recipe.mask.first)[:, 0].tolist()[1:] == wanted[1:]
    assert_close(recipe.mask.area()[[0, 1, 3, 4]], np.array([0, 0.01, 0.64, 1]).astype(np.float32))


def test_the_crop_of_asymmetric_cutmix_has_a_law_of_its_own():
    share = generator(0, "share").random(3000)
    recipe = recipe_of("asymmetric_cutmix", share, (40, 40))
    crop = recipe.partner.source.area()
    assert abs(np.corrcoef(crop, share)[0, 1]) < 0.07
    ratio = share.mean()
    assert abs(crop.mean() - ratio) < 0.02
    assert abs(crop.var() - ratio * (1 - ratio) / 3) < 0.01
    narrow = recipe_of("asymmetric_cutmix", share, (40, 40), concentration=500.0)
    assert narrow.partner.source.area().std() < 0.03
    assert recipe_of("asymmetric_cutmix", share, (1, 1)).partner.source.area().min() == 1


@each(
    "source, target",
    [((0, 0, 6, 8), (1, 2, 4, 4)), ((1, 1, 3, 4), (0, 0, 6, 8)), ((2, 3, 5, 7), (2, 0, 5, 4))],
)
def test_maps_keep_the_mass_of_what_is_shown(source, target):
    """The twin cuts pixels into 24 parts a side, which every width met here takes whole."""
    fitted = Fitted(
        *(Boxes(np.array([b[:2]]), np.array([b[2:]]), (6, 8)) for b in (source, target))
    )
    maps = noise(1, 1, 6, 8).abs()
    got = fitted.maps(torch.zeros_like(maps), maps)
    top, left, bottom, right = source
    assert_close(got.sum(), maps[0, top:bottom, left:right].sum())
    assert_close(got[0], torch.tensor(reference.moved_mass(maps[0].tolist(), source, target, 24)))


def test_rules_that_weigh_by_saliency_see_maps_that_moved_with_the_pixels(monkeypatch):
    """Even where one draw serves a batch: all of the partner's mass lies in ResizeMix's box."""
    seen = []
    monkeypatch.setattr(LABEL_RULES, "_entries", dict(LABEL_RULES._entries))
    LABEL_RULES.register("spy", LabelInfo(needs_maps=True))(
        lambda shown: seen.append(shown) or shown.area
    )
    maps = noise(2, 6, 8, 8).abs()
    maps /= maps.sum((1, 2), keepdim=True)
    for share_per in ("image", "batch"):
        given = {"saliency": maps, "settings": MixSettings(share_per=share_per), "batch_size": 3}
        mixed("resizemix@0.5+spectral:spy", noise(0, 6, 3, 8, 8), **given)
        shown = seen.pop()
        inside = (shown.partner * shown.masks.dense(maps.device)[:, 0]).sum((1, 2))
        wanted = (shown.masks.area() > 0).astype(np.float32)
        assert_close(inside, torch.from_numpy(wanted))
        assert torch.equal(shown.own, maps)


def test_the_soft_crop_is_a_shift_of_the_slow_twins_and_shows_one_colour():
    images = noise(3, 40, 2, 9, 7)
    result = mixed("soft_crop", images)
    assert torch.equal(result.targets, torch.eye(40))
    shifts = [(dy, dx) for dy in range(-9, 10) for dx in range(-7, 8)]
    found = set()
    for i in range(40):
        gone = result.mask[i, 0].bool()
        part = 1 - gone.float().mean()
        fits = [s for s in shifts if abs(reference.visible(*s, 9, 7) - part) < 1e-5]
        for channel in range(2):
            colour = result.images[i, channel][gone].unique()
            assert len(colour) <= 1
            fill = float(colour[0]) if len(colour) else 0.0
            own, got = images[i, channel].tolist(), result.images[i, channel]
            twins = [reference.shifted(own, dy, dx, fill) for dy, dx in fits]
            same = [
                s for s, t in zip(fits, twins, strict=True) if torch.equal(got, torch.tensor(t))
            ]
            assert same, "no shift of this visible part"
            found.add(same[0])
    assert {(np.sign(dy), np.sign(dx)) for dy, dx in found} >= {(1, 1), (1, -1), (-1, 1), (-1, -1)}


@each("size", SIZES)
def test_the_soft_crop_cuts_off_what_is_wanted(size):
    share = np.linspace(0, 1, 300)
    area = recipe_of("soft_crop", share, size).mask.area()
    assert (abs(area - share) <= size[0] / 2 / (size[0] * size[1]) + 1e-6).all()
    assert area[0] == 0
    assert area[-1] == 1


def test_the_colours_of_the_soft_crop_are_those_asked_for():
    fill = recipe_of("soft_crop", np.full(2000, 0.5), (2, 2), fill=3.0, spread=0.5).partner
    colour = fill(torch.zeros(2000, 3, 2, 2), torch.zeros(2000, 3, 2, 2))[:, :, 0, 0]
    assert_close(colour.mean(0), torch.full((3,), 3.0), atol=0.05, rtol=0)
    assert_close(colour.std(0), torch.full((3,), 0.5), atol=0.04, rtol=0)
    plain = recipe_of("soft_crop", [0.5], (2, 2), fill=3.0, spread=0.0).partner
    assert (plain(*[torch.zeros(1, 1, 2, 2)] * 2) == 3).all()
