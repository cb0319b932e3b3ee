"""TokenMix: blocks of tokens or single ones, as many as wanted, and labels by maps."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch.testing import assert_close

from automix.core.seeding import generator
from automix.mixes import MIXES, MixInputs
from automix.mixes.tokenmix import token_grid
from automix.mixing.actions import MixAction
from automix.nets.create import create_classifier
from automix.saliency import SALIENCY
from automix.training.population import Population
from tests import tiny
from tests.automix.mixes.drawing import SHARES, drawn, mixed, noise, random_maps, realised
from tests.cases import each
from tests.references import tokenmix as reference

both_modes = each("mode", ["block", "random"])


@both_modes
@each("size", [(224, 224), (32, 32), (24, 40), (31, 31), (7, 5), (1, 9)])
@each("share", SHARES)
def test_a_mask_drawn_at_lam_gives_lam_up_to_one_token_and_in_the_mean(share, size, mode):
    got = realised("tokenmix", share, size, mode=mode)
    rows, columns = token_grid(size)
    tokens = rows * columns
    if not (size[0] % rows or size[1] % columns):  # tokens are equal
        numbers = {np.floor(share * tokens), np.ceil(share * tokens)}
        assert set(np.rint(got * tokens)) <= numbers
    assert abs(got.mean() - share) < 0.01


@both_modes
def test_a_share_of_whole_tokens_is_met_exactly(mode):
    wanted = np.arange(65) / 64
    masks = drawn("tokenmix", wanted, (32, 32), mode=mode)
    assert masks.area().tolist() == wanted.tolist()


def test_all_tokens_and_what_rounds_them_are_not_one_more():
    class Most:
        def random(self, shape, dtype=np.float64):
            return np.full(shape, np.nextafter(dtype(1), dtype(0)))

    share = np.ones(2, np.float32)
    for mode in ("block", "random"):
        mask = MIXES["tokenmix"](MixInputs(share, (224, 224), 1.0, Most()), mode=mode)
        assert mask.area().tolist() == [1.0, 1.0]


@each("size", [(8, 8), (24, 40), (1, 9), (13, 2)])
def test_the_blocks_are_those_of_the_slow_twin(size):
    rows, columns = token_grid(size)
    kinds = set()
    for seed in range(60):
        share = 0.02 + 0.96 * seed / 60
        mask = drawn("tokenmix", [share], size, seed=seed).weight[0]
        rng = generator(seed, "mask")
        count = int(float(np.float32(share)) * rows * columns + rng.random(1, dtype=np.float32)[0])
        rounds = (tuple(rng.random((4, 1))[:, 0].tolist()) for _ in iter(int, 1))
        wanted = reference.blocks(rows, columns, count, rounds)
        kinds.add(len(wanted) < count)
        if len(wanted) < count:
            keys = rng.random((1, rows * columns))[0].tolist()
            wanted = reference.filled(wanted, rows, columns, count, keys)
        assert {tuple(token) for token in np.argwhere(mask == 1).tolist()} == wanted
    assert True in kinds, "nowhere were single tokens needed"
    assert False in kinds


def pieces(mode: str) -> list[int]:
    """In how many pieces the partner is seen, at a third of 14 x 14 tokens."""
    masks = drawn("tokenmix", np.full(200, 1 / 3), (224, 224), mode=mode).weight
    return [scipy.ndimage.label(mask)[1] for mask in masks]


def test_blocks_are_several_and_larger_than_random_tokens():
    blocks, tokens = pieces("block"), pieces("random")
    assert 1.3 < np.mean(blocks) < 6
    assert np.mean(tokens) > 20


def test_random_tokens_are_taken_alike_and_apart_from_each_other():
    masks = drawn("tokenmix", np.full(8000, 0.25), (8, 8), mode="random").weight
    assert abs(masks.mean(0) - 0.25).max() < 0.02  # four standard deviations
    # 16 of 64, so that a neighbour of one that is taken is one of 15 in 63.
    both = (masks[:, :, 1:] * masks[:, :, :-1]).mean((1, 2))
    assert abs(both.mean() - 16 / 64 * 15 / 63) < 4 * both.std() / 8000**0.5


def test_no_token_is_out_of_reach_of_blocks():
    often = drawn("tokenmix", np.full(4000, 0.25), (32, 32)).weight.mean(0)
    assert 0.08 < often.min() < often.max() < 0.45


@each(
    "sizes",
    [
        ((224, 224), (14, 14)),
        ((32, 32), (8, 8)),
        ((28, 28), (14, 14)),
        ((8, 8), (8, 8)),
        ((24, 40), (6, 10)),
        ((31, 31), (11, 11)),
        ((7, 5), (7, 5)),
        ((1, 200), (1, 14)),
        ((384, 384), (12, 12)),
    ],
)
def test_eight_to_fourteen_tokens_lie_along_the_longer_side(sizes):
    size, grid = sizes
    assert token_grid(size) == grid


@each("size, patch", [((32, 32), 4), ((24, 40), 8), ((224, 224), 16)])
def test_a_token_is_a_square_of_pixels(size, patch):
    mask = drawn("tokenmix", np.full(20, 0.4), size, patch=patch).dense(torch.device("cpu"))[:, 0]
    rows, columns = size[0] // patch, size[1] // patch
    tokens = mask.reshape(20, rows, patch, columns, patch)
    assert torch.equal(tokens.amin((2, 4)), tokens.amax((2, 4)))
    assert 0 < tokens[:, 0, 0].mean() < 1


def test_a_patch_larger_than_the_image_is_all_of_it():
    masks = drawn("tokenmix", np.full(50, 0.5), (8, 12), patch=16)
    assert set(masks.area().tolist()) == {0.0, 1.0}


def by_maps(images, maps):
    return mixed("tokenmix@0.5+spectral:cam_mass", images, saliency=maps)


def test_maps_weigh_each_label_by_what_is_seen_of_its_image():
    maps = random_maps(6, (8, 8))
    found = by_maps(noise(0, 6, 1, 8, 8), maps)
    totals = []
    for i, j in enumerate(found.partner.tolist()):
        mask = found.mask[i, 0].double()
        own = float((maps[i] * (1 - mask)).sum())
        partner = float((maps[j] * mask).sum())
        assert float(found.targets[i, i]) == pytest.approx(own, abs=1e-6)
        assert float(found.targets[i, j]) == pytest.approx(partner, abs=1e-6)
        totals.append(own + partner)
    assert max(totals) > 1.05
    assert min(totals) < 0.95


def test_without_a_teacher_and_under_level_maps_the_label_is_the_area():
    images = noise(0, 6, 1, 8, 8)
    plain = mixed("tokenmix", images)
    level = by_maps(images, torch.full((6, 8, 8), 1 / 64))
    assert torch.equal(level.images, plain.images)
    assert_close(level.targets, plain.targets)


@each("action", ["tokenmix_ema@0.5", "tokenmix@0.5+cam:cam_mass", "tokenmix@0.5"])
def test_it_trains(action):
    trainings = Population([tiny.digits_task()], tiny.trainer_settings(model_ema=True))
    trainings.reset([3])
    first, second = (trainings.run_epoch([MixAction.parse(action)])[0] for _ in range(2))
    assert second.train_loss < first.train_loss


def test_what_a_transformer_attends_to_weighs_the_labels():
    images, action = noise(0, 6, 1, 8, 8), "tokenmix@0.5+attention_cls:cam_mass"
    net = create_classifier("vit_digits", num_classes=6, shape=(1, 8, 8), seed=0).eval()
    maps = SALIENCY["attention_cls"](images, torch.eye(6), net)
    found, wanted = (
        mixed(action, images, **given).targets
        for given in ({"classifier": net}, {"saliency": maps})
    )
    assert_close(found, wanted)
    assert (found.sum(1) - 1).abs().max() > 1e-3
