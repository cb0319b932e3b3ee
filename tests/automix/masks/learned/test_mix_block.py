"""Mix Blocks against slow twins in plain numbers."""

from __future__ import annotations

from math import exp, sqrt

import torch
from torch.testing import assert_close

from automix.masks.learned.mix_block import CrowdBlock, JointBlock, PairBlock
from tests.automix.mixes.drawing import noise
from tests.cases import each

BLOCKS = [(PairBlock, 2), (JointBlock, 2), (CrowdBlock, 3)]


def block_of(kind, channels: int, told: bool):
    block = kind(channels, told)
    for i, weight in enumerate(block.parameters()):
        weight.data.copy_(noise(i, *weight.shape))
    return block.requires_grad_(False)


def weights_of(n: int, b: int):
    return noise(5, n, b).softmax(0)


def projected(layer, place: list[float]) -> list[float]:
    """What a 1 x 1 convolution makes of the channels of one place."""
    rows = layer.weight[:, :, 0, 0].tolist()
    biases = [0.0] * len(rows) if layer.bias is None else layer.bias.tolist()
    return [
        sum(w * x for w, x in zip(row, place, strict=True)) + bias
        for row, bias in zip(rows, biases, strict=True)
    ]


def places(one) -> list[list[float]]:
    """The channels of each place of a map (c, h, w)."""
    return one.flatten(1).T.tolist()


def found(query: list[float], keys: list[list[float]], values: list[float]) -> float:
    scores = [
        sum(q * k for q, k in zip(query, key, strict=True)) / sqrt(len(query)) for key in keys
    ]
    powers = [exp(score) for score in scores]
    return sum(p * v for p, v in zip(powers, values, strict=True)) / sum(powers)


def pair_twin(block, maps, weights):
    own, partner = (
        [[*place, float(w)] if block.told else place for place in places(one)]
        for one, w in zip(maps, weights, strict=True)
    )
    keys = [projected(block.embed, place) for place in partner]
    values = [projected(block.value, place)[0] for place in partner]
    scores = [found(projected(block.embed, place), keys, values) for place in own]
    return [[0.0] * len(scores), scores]


def joint_twin(block, maps, weights):
    own, partner = (
        [[x * (1 + float(w)) if block.told else x for x in place] for place in places(one)]
        for one, w in zip(maps, weights, strict=True)
    )
    both = [[*a, *b] for a, b in zip(own, partner, strict=True)]
    keys = [projected(block.key, place) for place in both]
    values = [
        projected(block.value[2], [max(0, x) for x in projected(block.value[0], place)])[0]
        for place in partner
    ]
    scores = [found(projected(block.query, place), keys, values) for place in both]
    return [[0.0] * len(scores), scores]


def crowd_twin(block, maps, weights):
    given = [
        [[*place, float(w)] if block.told else place for place in places(one)]
        for one, w in zip(maps, weights, strict=True)
    ]
    scores = []
    for i, mine in enumerate(given):
        others = [
            [projected(block.key, place) for place in one] for j, one in enumerate(given) if j != i
        ]
        keys = [[sum(x) for x in zip(*spot, strict=True)] for spot in zip(*others, strict=True)]
        values = [projected(block.value, place)[0] for place in mine]
        scores.append([found(projected(block.query, place), keys, values) for place in mine])
    return scores


@each("told", [False, True])
@each(
    "kind, n, twin",
    [(PairBlock, 2, pair_twin), (JointBlock, 2, joint_twin), (CrowdBlock, 3, crowd_twin)],
)
def test_scores_are_those_of_the_slow_twin(kind, n, twin, told):
    block, maps, weights = block_of(kind, 4, told), noise(1, n, 2, 4, 2, 3), weights_of(n, 2)
    got = block.scores(maps, weights).flatten(2)
    for i in range(2):
        wanted = torch.tensor(twin(block, maps[:, i], weights[:, i]))
        assert_close(got[i], wanted, atol=1e-4, rtol=1e-4)
    assert got.std() > 0.1


@each("size", [(6, 9), (5, 7), (2, 3)])
@each("kind, n", BLOCKS)
def test_masks_sum_to_1_in_every_pixel(kind, n, size):
    block, maps = block_of(kind, 4, True), noise(1, n, 5, 4, 2, 3)
    masks = block(maps, weights_of(n, 5), size)
    assert masks.shape == (n, 5, 1, *size)
    assert_close(masks.sum(0), torch.ones(5, 1, *size))
    assert float(masks.min()) > 0
    assert float(masks.std((3, 4)).min()) > 0


def test_the_mask_of_a_pair_is_the_sigmoid_of_its_score_in_each_cell():
    block, maps, weights = block_of(PairBlock, 4, True), noise(1, 2, 3, 4, 2, 2), weights_of(2, 3)
    score = block.scores(maps, weights)[:, 1:]
    own, partner = block(maps, weights, (4, 6))
    assert_close(partner, score.sigmoid().repeat_interleave(2, 2).repeat_interleave(3, 3))
    assert_close(own, 1 - partner)


@each("kind, n", BLOCKS)
def test_the_weights_are_heard_only_by_blocks_that_are_told(kind, n):
    maps, one = noise(1, n, 5, 4, 2, 3), weights_of(n, 5)
    for told in (False, True):
        block = block_of(kind, 4, told)
        same = torch.equal(block(maps, one, (4, 6)), block(maps, one.flip(1), (4, 6)))
        assert same is not told


@each("kind, n", BLOCKS)
def test_masks_are_made_in_full_precision(kind, n):
    block, maps, weights = block_of(kind, 4, True), noise(1, n, 5, 4, 2, 3), weights_of(n, 5)
    wanted = block(maps.bfloat16().float(), weights, (4, 6))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(block(maps.bfloat16(), weights, (4, 6)), wanted)


@each("kind, n", BLOCKS)
def test_a_new_block_shows_all_images_nearly_alike(kind, n):
    masks = kind(8, True)(noise(1, n, 5, 8, 2, 3), weights_of(n, 5), (4, 6))
    assert_close(masks, torch.full_like(masks, 1 / n), atol=0.02, rtol=0)


def test_no_mask_depends_on_the_other_mixtures():
    for kind, n in BLOCKS:
        block, maps, weights = block_of(kind, 4, True), noise(1, n, 5, 4, 2, 3), weights_of(n, 5)
        alone = block(maps[:, 2:3], weights[:, 2:3], (4, 6))
        assert_close(block(maps, weights, (4, 6))[:, 2:3], alone)
