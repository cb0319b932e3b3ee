"""Methods that make training steps of their own, beside others in one stack."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from automix.core.errors import ConfigError
from automix.core.seeding import generator
from automix.masks.method_steps import Step, StepLoss, soft_losses
from automix.mixes import MIXES, MixInfo
from automix.mixing.actions import MixAction
from automix.mixing.batch import mix_batch
from automix.mixing.loss import loss_of
from automix.training.population import Population
from tests import tiny
from tests.cases import each

OWN, KEEPING, CUTMIX, NONE = "own_plain@0.5", "own_keeping@0.5", "cutmix@0.5", "none"
"""Texts, because the first two are methods only while a test runs."""


def own_plain(net, step: Step) -> StepLoss:
    """Train on the images as they are: what ``none`` does, by a step of its own."""
    whole = torch.ones(len(step.images))
    return StepLoss(soft_losses(net(step.images), step.targets), whole, (1, 2))


def own_keeping(net, step: Step) -> StepLoss:
    step.state.steps += 1
    return own_plain(net, step)


class Counter:
    """Counts its own steps, and all that it saw; keeps the sum of the weights."""

    def __init__(self, setup):
        self.setup, self.steps, self.seen, self.total = setup, 0, 0, 0.0

    def follow(self, weights):
        self.seen += 1
        self.total = float(sum(value.double().sum() for value in weights.values()))

    def state_dict(self):
        return {"steps": self.steps, "seen": self.seen, "total": self.total}

    def load_state_dict(self, state):
        self.steps, self.seen, self.total = state["steps"], state["seen"], state["total"]


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    MIXES.entry("none")  # finds all others
    monkeypatch.setattr(MIXES, "_entries", dict(MIXES._entries))
    MIXES.register("own_plain", MixInfo(step=True))(own_plain)
    MIXES.register("own_keeping", MixInfo(step=True, state=Counter))(own_keeping)


def population(members: int, **settings) -> Population:
    return Population([tiny.digits_task()] * members, tiny.trainer_settings(**settings))


def played(trainings: Population, *actions: str):
    return trainings.run_epoch([MixAction.parse(action) for action in actions])


def records(*actions: str, model="small_cnn_w8", epochs=2):
    trainings = population(len(actions), model=model)
    trainings.reset([3] * len(actions))
    return trainings, [played(trainings, *actions) for _ in range(epochs)]


def test_a_plain_step_of_its_own_trains_as_a_plain_step():
    _, (_, (own, none)) = records(OWN, NONE)
    assert own.val_loss == pytest.approx(none.val_loss, rel=1e-4)
    assert own.train_loss == pytest.approx(none.train_loss, rel=1e-4)
    assert own.forward_passes == none.forward_passes + 60
    assert own.backward_passes == 3 * none.backward_passes


@each("others", [(OWN, CUTMIX), (CUTMIX, KEEPING), (NONE, OWN)])
def test_dropout_does_not_depend_on_company(others):
    _, alone = records(OWN, model="dropout_cnn_for_tests")
    _, among = records(OWN, *others, model="dropout_cnn_for_tests")
    for one, many in zip(alone, among, strict=True):
        assert many[0].val_loss == pytest.approx(one[0].val_loss, rel=1e-5)


def test_running_statistics_of_some_members_are_kept():
    trainings, _ = records(OWN, NONE, OWN)
    members = trainings.state_dict()["members"]
    statistics = [name for name in members[0]["classifier"] if "running" in name]
    assert statistics
    for name in statistics:
        own, none = members[0]["classifier"][name], members[1]["classifier"][name]
        assert own.abs().sum() > 0
        assert_close(own, none, rtol=1e-3, atol=1e-4)


def test_a_state_begins_when_its_method_is_first_played_and_follows_from_then_on():
    trainings = population(2)
    trainings.reset([1, 2])
    steps = -(-60 // tiny.BATCH_SIZE)
    played(trainings, NONE, NONE)
    assert all(not member["methods"] for member in trainings.state_dict()["members"])
    played(trainings, KEEPING, NONE)
    played(trainings, CUTMIX, KEEPING)
    first, second = (m["methods"]["own_keeping"] for m in trainings.state_dict()["members"])
    assert (first["steps"], first["seen"]) == (steps, 2 * steps)
    assert (second["steps"], second["seen"]) == (steps, steps)


def test_mix_batch_says_who_can_play_it():
    images = torch.zeros(4, 1, 8, 8)
    with pytest.raises(ConfigError, match="own_plain is a training step of its own") as error:
        mix_batch(
            images,
            torch.zeros(4).long(),
            MixAction.parse(OWN),
            num_classes=10,
            rng=generator(0, "mix"),
        )
    assert "loss_of" in error.value.hint


def test_a_batch_that_is_not_mixed_is_trained_on_as_it_is():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    images, labels = torch.rand(4, 1, 8, 8), torch.arange(4)
    never = replace(MixAction.parse(OWN), mix_probability=1e-9)
    told = loss_of(net, images, labels, never, num_classes=10, rng=generator(0, "mix"))
    assert told.passes == (0, 0)
    assert_close(
        told.losses, torch.nn.functional.cross_entropy(net(images), labels, reduction="none")
    )


@each("action", ["cutmix@0.5", "cutmix@0.5:perturbed", "mixup@0.5+gradient", "none"])
def test_a_loop_of_ones_own_gets_a_loss_for_every_action(action):
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    images, labels = torch.rand(6, 1, 8, 8), torch.arange(6)
    told = loss_of(
        net, images, labels, MixAction.parse(action), num_classes=10, rng=generator(0, "mix")
    )
    told.losses.mean().backward()
    assert told.losses.shape == told.own_share.shape == (6,)
    assert net[1].weight.grad.abs().sum() > 0
