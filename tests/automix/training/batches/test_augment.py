"""Crops and flips against loops over pixels, the way back for maps, and the law of the draws."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from automix.core.errors import ConfigError
from automix.core.seeding import generator
from automix.training.batches import augment
from automix.training.batches.augment import (
    AugmentSettings,
    Views,
    augmented,
    augmented_maps,
    canonical_maps,
    draw_views,
)
from tests.cases import each
from tests.strategies import SEEDS

CIFAR = AugmentSettings(crop_padding=4, flip=0.5)


def shown(views, i, y, x, height, width):
    """Return which pixel of its image view i shows at (y, x), or None for padding: cropped first,
    flipped then."""
    if views.flipped[i]:
        x = width - 1 - x
    at = y + int(views.dy[i]), x + int(views.dx[i])
    return at if 0 <= at[0] < height and 0 <= at[1] < width else None


def augmented_slowly(images, views, fill):
    """Return what ``augmented`` should: one pixel after the other; ``fill`` has one value a
    channel."""
    b, c, height, width = images.shape
    out = torch.zeros((b, c, height, width), dtype=images.dtype)
    for i in range(b):
        for k in range(c):
            for y in range(height):
                for x in range(width):
                    at = shown(views, i, y, x, height, width)
                    out[i, k, y, x] = fill[k] if at is None else images[i, k, at[0], at[1]]
    return out


def numbered(b, c, h, w, dtype=torch.float32):
    """Images whose pixels all differ, as far as the type can tell them apart; none is 0."""
    numbers = torch.arange(1, b * c * h * w + 1, dtype=torch.float64).view(b, c, h, w)
    if dtype.is_floating_point:
        return numbers.to(dtype)
    return (numbers % 251 + 1).to(dtype)


def contiguous(images):
    return images.contiguous()


def channels_last(images):
    return images.contiguous(memory_format=torch.channels_last)


def transposed(images):
    return images.transpose(2, 3).contiguous().transpose(2, 3)


def every_second(images):
    return images.repeat_interleave(2, 3)[..., ::2]


def permuted(images):
    return images.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0)


LAYOUTS = st.sampled_from([contiguous, channels_last, transposed, every_second, permuted])
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.uint8])
BATCHES = st.sampled_from([3, 0, 1, 2, 5])
SIDES = st.integers(1, 6)
SETTINGS = st.builds(
    AugmentSettings,
    # The greatest ones are beyond the sides, so that some views show nothing of their image.
    crop_padding=st.sampled_from([1, 0, 2, 4, 9]),
    flip=st.sampled_from([0.5, 0.0, 1.0]),
)


@given(
    size=st.tuples(BATCHES, st.integers(1, 5), SIDES, SIDES),
    settings=SETTINGS,
    dtype=DTYPES,
    layout=LAYOUTS,
    into=st.none() | LAYOUTS,
    fill=st.sampled_from(["nothing", "number", "()", "(c,)", "(c, 1, 1)"]),
    seed=SEEDS,
)
def test_each_pixel_is_the_one_that_the_view_names(size, settings, dtype, layout, into, fill, seed):
    b, c, _, _ = size
    images = layout(numbered(*size, dtype=dtype))
    before = images.clone()
    views = draw_views(b, settings, generator(seed))
    flat = {"nothing": [0.0] * c, "number": [3.0] * c, "()": [3.0] * c}
    colours = flat.get(fill, [float(k) for k in range(c)])
    options = {
        "nothing": {},
        "number": {"fill": 3.0},
        "()": {"fill": torch.tensor(3.0)},
        "(c,)": {"fill": torch.tensor(colours)},
        "(c, 1, 1)": {"fill": torch.tensor(colours)[:, None, None]},
    }[fill]
    out = None if into is None else into(torch.full_like(images, 7))
    got = augmented(images, views, out, **options)
    assert got.dtype == dtype
    assert torch.equal(got, augmented_slowly(images, views, colours))
    assert torch.equal(images, before)
    if out is None:
        assert got.is_contiguous()
    else:
        assert got is out


def test_a_picture_in_numbers():
    """One image, each of the four ways, by hand."""
    images = torch.tensor([[1.0, 2, 3], [4, 5, 6]]).expand(4, 1, 2, 3)
    views = Views(
        dy=np.array([0, 1, 0, -1]),
        dx=np.array([0, 1, 0, 2]),
        flipped=np.array([False, False, True, True]),
    )
    assert augmented(images, views)[:, 0].tolist() == [
        [[1, 2, 3], [4, 5, 6]],
        [[5, 6, 0], [0, 0, 0]],
        [[3, 2, 1], [6, 5, 4]],
        [[0, 0, 0], [0, 0, 3]],
    ]


def test_padding_costs_no_more_memory_than_the_image_can_fill():
    """A padded image of the wanted size would take 16 EB."""
    images = numbered(4, 1, 3, 2)
    views = draw_views(4, AugmentSettings(crop_padding=10**9), generator(0))
    assert not augmented(images, views).any()
    assert not canonical_maps(images[:, 0], views)[1].any()


@given(size=st.tuples(BATCHES, st.integers(1, 5), SIDES, SIDES), layout=LAYOUTS, seed=SEEDS)
def test_settings_that_are_off_leave_all_as_it_is_in_new_memory(size, layout, seed):
    images = layout(numbered(*size))
    settings = AugmentSettings()
    views = draw_views(len(images), settings, generator(seed))
    moved, (back, seen) = augmented(images, views), canonical_maps(images[:, 0], views)
    assert not settings.active
    assert torch.equal(moved, images)
    assert torch.equal(back, images[:, 0])
    assert bool(seen.all())
    assert not len(images) or moved.data_ptr() != images.data_ptr()


@each("on", [{"crop_padding": 1}, {"flip": 0.01}])
def test_settings_that_can_move_an_image_are_active(on):
    assert AugmentSettings(**on).active


@each("at_once", [0, 1, 2, 3, 5, 9])
def test_many_images_are_moved_in_blocks_as_few_are(monkeypatch, at_once):
    """Also where the last block is shorter; memory that no block reaches keeps its -1."""
    images, views = numbered(5, 3, 6, 4), draw_views(5, CIFAR, generator(1))
    assert abs(views.dy).max() == abs(views.dx).max() == 4
    monkeypatch.setattr(augment, "BLOCK", at_once * 3 * (6 + 2 * 4) * (4 + 2 * 4) * 4)
    moved = augmented(images, views, torch.full_like(images, -1))
    assert torch.equal(moved, augmented_slowly(images, views, [0.0] * 3))


def brought_back(maps, views):
    """Return maps on the untouched images, and where these were seen, pixel by pixel."""
    back, seen = torch.zeros_like(maps), torch.zeros(maps.shape, dtype=torch.bool)
    for i, y, x in np.ndindex(*maps.shape):
        at = shown(views, i, y, x, *maps.shape[1:])
        if at is not None:
            back[i, at[0], at[1]], seen[i, at[0], at[1]] = maps[i, y, x], True
    return back, seen


@given(
    size=st.tuples(BATCHES, SIDES, SIDES),
    settings=SETTINGS,
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    seed=SEEDS,
)
def test_maps_move_as_images_do_and_come_back_where_they_were_seen(size, settings, dtype, seed):
    maps = numbered(size[0], 1, *size[1:], dtype)[:, 0]
    views = draw_views(size[0], settings, generator(seed))
    moved = augmented_maps(maps, views)
    assert torch.equal(moved, augmented_slowly(maps[:, None], views, [0.0])[:, 0])
    back, seen = canonical_maps(moved, views)
    assert seen.dtype == torch.bool
    assert torch.equal(seen, brought_back(maps, views)[1])
    assert back.dtype == dtype
    assert torch.equal(back, torch.where(seen, maps, 0))


@given(size=st.tuples(BATCHES, SIDES, SIDES), settings=SETTINGS, seed=SEEDS)
def test_what_the_padding_had_in_a_map_is_lost_on_the_way_back(size, settings, seed):
    """A map of the moved image is anything, also where the padding shows."""
    maps = numbered(size[0], 1, *size[1:])[:, 0]
    views = draw_views(size[0], settings, generator(seed))
    for got, wanted in zip(canonical_maps(maps, views), brought_back(maps, views), strict=True):
        assert torch.equal(got, wanted)


@given(settings=SETTINGS, seed=SEEDS)
def test_some_of_the_views_move_some_of_the_images(settings, seed):
    images, views = numbered(6, 2, 4, 5), draw_views(6, settings, generator(seed))
    moved = augmented(images, views)
    for rows in (slice(1, 4), slice(0, 0), np.array([5, 0, 0])):
        some = views[rows]
        assert torch.equal(augmented(images[rows], some), moved[rows])
        assert len(some) == len(images[rows])


@given(settings=SETTINGS, b=BATCHES, seed=SEEDS)
def test_the_same_generator_draws_the_same_views_of_the_wanted_kind(settings, b, seed):
    views, again = (draw_views(b, settings, generator(seed)) for _ in range(2))
    for one, other in ((views.dy, again.dy), (views.dx, again.dx), (views.flipped, again.flipped)):
        assert one.shape == (b,)
        assert one.tolist() == other.tolist()
    assert views.dy.dtype == views.dx.dtype == np.int64
    assert views.flipped.dtype == np.bool_


@given(settings=SETTINGS, b=BATCHES, seed=SEEDS)
def test_whatever_the_settings_three_numbers_an_image_are_drawn(settings, b, seed):
    rng, plain = generator(seed), generator(seed)
    draw_views(b, settings, rng)
    plain.random(3 * b)
    assert rng.bit_generator.state == plain.bit_generator.state


@each("padding", [1, 4, 20])
def test_offsets_are_uniform_and_independent(padding):
    n, kinds = 20_000, 2 * padding + 1
    views = draw_views(n, AugmentSettings(crop_padding=padding, flip=0.5), generator(7))
    for offsets in (views.dy, views.dx):
        counts = np.bincount(offsets + padding)
        assert len(counts) == kinds
        assert scipy.stats.chisquare(counts).pvalue > 0.01
    cells = (views.dy + padding) * kinds + (views.dx + padding)
    both = np.bincount(2 * cells + views.flipped, minlength=2 * kinds**2)
    assert scipy.stats.chisquare(both).pvalue > 0.01


@each("flip", [0.1, 0.5, 0.8])
def test_the_wanted_share_is_flipped(flip):
    n = 20_000
    flips = int(draw_views(n, AugmentSettings(flip=flip), generator(8)).flipped.sum())
    assert scipy.stats.binomtest(flips, n, flip).pvalue > 0.01


class _Edge:
    """Draws the same number always, in place of a generator."""

    def __init__(self, number):
        self.number = number

    def random(self, size):
        return np.full(size, self.number)


@each("padding", [0, 1, 2, 4, 8, 28, 1000])
def test_the_least_and_the_greatest_draw_stay_within_the_padding(padding):
    for flip in (0.0, 1.0):
        settings = AugmentSettings(crop_padding=padding, flip=flip)
        for number, offset in ((0.0, -padding), (1 - 2.0**-53, padding)):
            views = draw_views(2, settings, _Edge(number))
            assert views.dy.tolist() == views.dx.tolist() == [offset] * 2
            assert views.flipped.tolist() == [flip == 1] * 2


def test_nothing_waits_for_a_device():
    """On the meta device there are no values: whatever would read one back fails."""
    images = torch.zeros(5, 3, 6, 7, device="meta")
    views = draw_views(5, CIFAR, generator(0))
    assert augmented(images, views, fill=torch.zeros(3)).device.type == "meta"
    assert canonical_maps(images[:, 0], views)[1].device.type == "meta"


@pytest.mark.gpu
def test_a_gpu_shows_the_same_views_and_is_not_waited_for():
    images, views = numbered(128, 3, 32, 32), draw_views(128, CIFAR, generator(0))
    there = images.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        moved = augmented(there, views)
        back, seen = canonical_maps(moved[:, 0], views)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(moved.cpu(), augmented(images, views))
    assert torch.equal(back.cpu(), torch.where(seen.cpu(), images[:, 0], 0))


def test_views_of_another_batch_are_refused():
    with pytest.raises(ConfigError, match="got 3 views of 4 images, wanted one for each"):
        augmented(torch.zeros(4, 1, 2, 2), draw_views(3, CIFAR, generator(0)))


@each("out", [torch.zeros(3, 1, 2, 1), torch.zeros(3, 1, 2, 2, dtype=torch.float64)])
def test_an_out_that_is_unlike_the_images_is_refused(out):
    with pytest.raises(ConfigError, match=r"wanted that of the images: \(3, 1, 2, 2\) torch.fl"):
        augmented(torch.zeros(3, 1, 2, 2), draw_views(3, CIFAR, generator(0)), out=out)
