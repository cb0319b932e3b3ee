"""The slow copy, its law, and what is kept of it."""

from __future__ import annotations

import copy
import gc
import weakref
from math import cos, pi

import pytest
import timm
import torch
from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer
from torch.testing import assert_close

from automix.core.errors import ConfigError
from automix.core.seeding import borrowed_global_rng
from automix.masks.learned.learned_state import LearnedState, momentum_at
from automix.masks.learned.mix_block import PairBlock
from automix.masks.method_steps import Setup
from automix.mixing.actions import MixAction
from automix.nets.zoo.pooled import PooledNet
from automix.nets.zoo.small_cnn import SmallCNN
from automix.training.population import Population
from tests import tiny
from tests.automix.masks.learned.learning import METHODS, SHAPE, begun, classifier, maps_of
from tests.automix.mixes.drawing import noise
from tests.automix.training.helpers import member_of
from tests.cases import each
from tests.same import assert_same

ACTIONS = [f"{method}@0.5" for method in METHODS]


def played(trainings: Population, *actions: str):
    return trainings.run_epoch([MixAction.parse(action) for action in actions])


def population(*seeds: int, **settings) -> Population:
    trainings = Population([tiny.digits_task()] * len(seeds), tiny.trainer_settings(**settings))
    trainings.reset(list(seeds))
    return trainings


def state_of(net, shape=SHAPE, stage=-2, seed=0) -> LearnedState:
    settings = {"stage": stage, "memory": 0.005, "lr": 0.01, "told": True}
    setup = Setup(copy.deepcopy(net), shape, 6, seed, 100, torch.device("cpu"), settings)
    return LearnedState(setup, PairBlock)


# The law ------------------------------------------------------------------------------------------


def test_the_papers_momentum_is_that_of_their_200_000_steps():
    steps = 200_000
    assert momentum_at(0, steps, 0.005) == pytest.approx(0.999, abs=1e-12)
    assert momentum_at(steps // 10 - 1, steps, 0.005) == pytest.approx(0.999, abs=1e-12)
    for done in (steps // 10, steps // 3, steps // 2, steps):
        paper = 0.999999 - (0.999999 - 0.999) * (cos(pi * done / steps) + 1) / 2
        assert momentum_at(done, steps, 0.005) == pytest.approx(paper, abs=1e-12)
    assert momentum_at(2 * steps, steps, 0.005) == pytest.approx(0.999999, abs=1e-12)


def test_a_short_training_is_remembered_in_the_same_part_but_for_the_shortest():
    assert momentum_at(0, 20_000, 0.005) == pytest.approx(0.99)
    assert momentum_at(0, 200, 0.005) == pytest.approx(0.9)
    assert momentum_at(0, 200, 0.25) == pytest.approx(0.98)
    course = [momentum_at(done, 200, 0.005) for done in range(220)]
    assert course == sorted(course)


# The slow copy ------------------------------------------------------------------------------------


def test_the_slow_copy_follows_by_the_law_whoever_plays(monkeypatch):
    """Weights and statistics by hand, over an epoch of the method, one of mixup, one of none."""
    seen = []
    follow = LearnedState.follow

    def watched(state, weights):
        seen.append({name: value.clone() for name, value in weights.items()})
        follow(state, weights)

    trainings = population(1)
    played(trainings, "none")
    begin = trainings.state_dict()["members"][0]["classifier"]
    monkeypatch.setattr(LearnedState, "follow", watched)
    for action in ("automix@0.5", "mixup@0.5", "none"):
        played(trainings, action)
    own = trainings.state_dict()["members"][0]["methods"]["automix"]
    assert (own["followed"], own["learned"]) == (len(seen), len(seen) // 3) == (12, 4)
    assert any("running_var" in name for name in begin)
    for name, value in begin.items():
        wanted = value.double()
        for done, weights in enumerate(seen):
            # Sixteen steps remember ten; a tenth of them are the first two.
            fading = 1 if done < 2 else (1 + cos(pi * done / 16)) / 2
            pace = 0.1 * (fading + (1 - fading) / 1000)
            wanted = (1 - pace) * wanted + pace * weights[name].double()
        if not value.is_floating_point():
            wanted = seen[-1][name]
        assert_close(own["net"][name].double(), wanted.double(), atol=1e-5, rtol=1e-4)
    moved = max(float((own["net"][name] - seen[-1][name]).abs().max()) for name in begin)
    assert moved > 1e-3


def test_the_slow_copy_is_a_copy():
    net = classifier()
    state = begun("automix", net)
    for own, other in zip(state.net.parameters(), net.parameters(), strict=True):
        assert torch.equal(own, other)
        assert own.data_ptr() != other.data_ptr()
        assert not own.requires_grad
    before = {name: value.clone() for name, value in net.state_dict().items()}
    weights = {name: value + 1 for name, value in before.items()}
    state.follow(weights)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    got = dict(state.net.named_parameters())["fc.weight"]
    assert_close(got, before["fc.weight"] + 0.1)


def test_looking_gives_the_map_before_the_last_and_the_logits():
    net, images = classifier(), noise(0, 5, *SHAPE)
    net(noise(1, 50, *SHAPE))  # which moves the statistics
    state = state_of(net)
    maps, go_on = state.looked(images)
    assert_close(maps, maps_of(net, images))
    assert_close(go_on(), state.net(images))
    assert_close(maps, maps_of(net, images))  # going on has not changed them
    assert not maps.requires_grad
    assert_close(state_of(net, stage=0).looked(images)[0], images)
    assert state_of(net, stage=-1).looked(images)[0].shape == (5, 32, 2, 2)


def test_going_on_leaves_the_map_as_it_is_where_a_part_begins_in_place():
    shrinks = torch.nn.Sequential(torch.nn.ReLU(inplace=True), torch.nn.Conv2d(4, 4, 3, stride=2))
    state = state_of(PooledNet([torch.nn.Conv2d(1, 4, 3), shrinks], 4, 6))
    maps, go_on = state.looked(noise(0, 5, *SHAPE))
    assert float(maps.min()) < 0
    kept = maps.clone()
    go_on()
    assert torch.equal(maps, kept)


def test_a_block_begins_by_its_seed_alone():
    net = classifier()
    first = state_of(net).block.state_dict()
    with borrowed_global_rng(1):
        assert_same(state_of(net).block.state_dict(), first)
    assert not torch.equal(state_of(net, seed=1).block.embed.weight, first["embed.weight"])


def test_a_net_without_stages_shows_its_last_map():
    class Twice(PooledNet):
        def forward(self, images):
            return 2 * super().forward(images)

    net = Twice([torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(inplace=True)], 4, 6)
    images = noise(0, 5, *SHAPE)
    maps, go_on = state_of(net).looked(images)
    assert_close(maps, net.forward_features(images).detach())
    assert_close(go_on(), net.forward_head(net.forward_features(images)).detach())
    assert not maps.requires_grad
    assert not go_on().requires_grad


@each("pool", ["token", "avg"])
def test_a_transformer_shows_the_grid_of_its_tokens(pool):
    shape = (2, 8, 12)
    form = {"img_size": shape[1:], "patch_size": 4, "in_chans": 2, "num_classes": 6}
    size = {"embed_dim": 16, "depth": 6, "num_heads": 2, "class_token": pool == "token"}
    with borrowed_global_rng(0):
        net = VisionTransformer(**form, **size, global_pool=pool, drop_path_rate=0.3)
    state, images = state_of(net, shape), noise(0, 5, *shape)
    maps, go_on = state.looked(images)
    assert maps.shape == (5, 16, 2, 3)
    assert_close(go_on(), state.net(images))
    assert_close(state.net(images), copy.deepcopy(net).eval()(images))


@register_model
def counting_cnn_for_tests(pretrained: bool = False, **words) -> SmallCNN:
    """A net with a buffer that is in no state dict, as Swin's masks."""
    net = SmallCNN(4, words["num_classes"], words["in_chans"])
    net.stackable = False
    net.register_buffer("steps", torch.arange(3), persistent=False)
    return net


@each("action", ACTIONS)
def test_a_net_may_have_buffers_that_it_makes_itself(action):
    trainings = population(1, model="counting_cnn_for_tests")
    played(trainings, action)
    assert member_of(trainings).states[action.split("@")[0]].followed == 4


def test_what_timm_builds_is_looked_at_too():
    net = timm.create_model("mobilenetv3_small_050", num_classes=6, in_chans=1)
    maps, go_on = state_of(net, (1, 32, 32)).looked(noise(0, 2, 1, 32, 32))
    assert maps.dim() == 4
    assert go_on().shape == (2, 6)


def test_a_stage_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="stage is 4, and SmallCNN has stages up to 3"):
        state_of(classifier(), stage=4)


# Snapshots ----------------------------------------------------------------------------------------


def test_a_restored_training_goes_on_as_it_did():
    """Each method, one that joins later and one that pauses."""
    trainings = population(1, 2, 3, 4)
    played(trainings, *ACTIONS, "none")
    kept = trainings.state_dict()
    plays = (*ACTIONS, ACTIONS[0]), ("cutmix@0.5", *ACTIONS)
    first = [played(trainings, *play) for play in plays]
    end = trainings.state_dict()
    trainings.reset([7, 8, 9, 10])
    played(trainings, "none", *ACTIONS)
    trainings.load_state_dict(kept)
    assert [played(trainings, *play) for play in plays] == first
    assert_same(trainings.state_dict(), end)


@each("action", ACTIONS)
def test_equal_seeds_learn_equal_masks_and_others_do_not(action):
    trainings = population(1, 1, 2)
    played(trainings, action, action, action)
    one, same, other = (m["methods"] for m in trainings.state_dict()["members"])
    assert_same(one, same)
    weight = "value.weight" if action != "samix@0.5" else "value.0.weight"
    blocks = [next(iter(states.values()))["block"][weight] for states in (one, other)]
    assert not torch.equal(*blocks)


def test_a_reset_lets_go_of_what_was_learned():
    trainings = population(1)
    played(trainings, "automix@0.5")
    state = weakref.ref(member_of(trainings).states["automix"])
    trainings.reset([1])
    gc.collect()
    assert state() is None
    assert not trainings.state_dict()["members"][0]["methods"]
