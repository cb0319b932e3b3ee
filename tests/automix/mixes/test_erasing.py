"""What erases and keeps the label: cutout, hide-and-seek, random erasing."""

from __future__ import annotations

import numpy as np
import torch
from torch.testing import assert_close

from tests.automix.mixes.drawing import SIZES, boxes, mixed, noise, recipe_of
from tests.cases import each
from tests.references import warps as reference

CPU = torch.device("cpu")


@each(
    "method, options",
    [
        ("cutout", ["cutout.fill=7"]),
        ("random_erasing", ["random_erasing.fill=7", "random_erasing.noise=0"]),
    ],
)
def test_a_box_is_erased_as_the_slow_twin_does_and_the_label_stays(method, options):
    images = noise(0, 9, 2, 8, 6)
    result = mixed(method, images, options=options)
    assert torch.equal(result.targets, torch.eye(9))
    for i, box in enumerate(boxes(result.masks)):
        wanted = [reference.erased(one, box, 7.0) for one in images[i].tolist()]
        assert torch.equal(result.images[i], torch.tensor(wanted))
    assert float(result.own_share.min()) < 0.6, "nothing of size was erased"


def test_cutout_has_its_centre_anywhere_and_loses_what_the_border_clips():
    """Without pixels, a side s would keep ``s - s^2 / 4`` on average."""
    for share, wanted in ((0.5, 0.339), (0.1, 0.0848)):
        area = recipe_of("cutout", np.full(4000, share), (64, 64)).mask.area()
        assert abs(area.mean() - wanted) < 0.008
    small = recipe_of("cutout", np.full(1500, 1 / 64), (8, 8)).mask
    assert (small.area() == np.float32(1 / 64)).all()
    assert len(np.unique(small.first, axis=0)) == 64


def test_guided_cutout_erases_around_the_own_peak():
    own = torch.full((3, 9, 12), 0.001)
    own[0, 4, 6] = own[1, 0, 11] = own[2, 8, 2] = 1
    mask = recipe_of("cutout", [0.11] * 3, (9, 12), own=own).mask
    assert mask.dense(CPU)[0, 0].nonzero().tolist() == [
        [y, x] for y in (3, 4, 5) for x in (4, 5, 6, 7)
    ]
    assert bool(mask.dense(CPU)[1, 0, 0, 11])
    assert bool(mask.dense(CPU)[2, 0, 8, 2])
    assert mask.area()[1] < mask.area()[0]


@each("size", SIZES)
def test_the_box_of_random_erasing_covers_the_share_and_lies_inside(size):
    share = np.linspace(0, 1, 300)
    box = recipe_of("random_erasing", share, size).mask
    assert (abs(box.area() - share) <= 0.5 / size[1] + 1e-6).all()
    assert box.area()[-1] == 1


def test_the_shape_of_random_erasing_is_uniform_in_its_logarithm():
    box = recipe_of("random_erasing", np.full(2000, 0.05), (400, 300), aspect=0.2).mask
    tall, wide = (box.end - box.first).T
    logs = np.log(tall / wide) / np.log(5)
    assert abs(logs).max() < 1.02
    assert abs(logs.mean()) < 0.05
    assert abs(logs.var() - 1 / 3) < 0.03
    square = recipe_of("random_erasing", np.full(20, 0.05), (400, 300), aspect=1.0).mask
    assert abs(np.diff(square.end - square.first)).max() <= 1


def test_random_erasing_leaves_noise_at_each_pixel_that_its_seed_fixes():
    images = torch.zeros(60, 3, 16, 16)
    options = ["random_erasing.fill=2", "random_erasing.noise=0.5"]
    first, second = (mixed("random_erasing", images, options=options).images for _ in range(2))
    assert torch.equal(first, second)
    values = first[first != 0]
    assert abs(float(values.mean()) - 2) < 0.03
    assert abs(float(values.std()) - 0.5) < 0.02
    assert len(values.unique()) > 0.99 * len(values)
    halves = mixed("random_erasing", images.bfloat16(), options=options).images
    assert torch.equal(halves, first.bfloat16())


@each("size", SIZES)
def test_hide_and_seek_erases_as_much_as_is_wanted_on_average(size):
    for share in (0.1, 0.5):
        area = recipe_of("hide_and_seek", np.full(3000, share), size).mask.area()
        assert abs(area.mean() - share) < 0.012
        if size == (24, 40):  # no more than the one cell that is rounded, of 6 x 10 pixels
            assert abs(area - share).max() <= 6 * 10 / (24 * 40)
    whole = recipe_of("hide_and_seek", [0, 1], size).mask.dense(CPU)
    assert not whole[0].any()
    assert bool((whole[1] == 1).all())


def test_hide_and_seek_hides_whole_cells_of_its_grids_any_of_them():
    masks = recipe_of("hide_and_seek", np.full(300, 0.3), (8, 12), cells=(2, 4)).mask
    fine = masks.dense(CPU).unfold(2, 2, 2).unfold(3, 3, 3).flatten(4)
    assert bool((fine == fine[..., :1]).all()), "a cell of the finer grid is cut"
    coarse = masks.dense(CPU).unfold(2, 4, 4).unfold(3, 6, 6).flatten(2)
    whole = (coarse.unflatten(2, (4, -1)).std(3) == 0).all(2)[:, 0]
    assert 0.35 < float(whole.float().mean()) < 0.65, "half of the images have the coarse grid"
    assert_close(fine[..., 0].mean(0)[0], torch.full((4, 4), 0.3), atol=0.11, rtol=0)
    filled = mixed("hide_and_seek", noise(0, 9, 1, 8, 8), options=["hide_and_seek.fill=7"])
    assert bool((filled.images[filled.mask == 1] == 7).all())
    assert bool(filled.mask.any())
