"""The contract of training steps of a method's own: on what is registered, on two that keep it,
and on some that do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from automix.masks.method_steps import Step, StepLoss, soft_losses, unseen
from automix.mixes import MIXES, MixInfo
from automix.mixing.actions import OFF, PLAIN, MixAction
from automix.mixing.loss import keeps_state
from automix.mixing.options import configured
from automix.training.population import Population
from tests import step_contract as contract
from tests import tiny
from tests.automix.mixes import own_steps  # noqa: F401 (registers a net)
from tests.automix.training.helpers import digits
from tests.cases import each, named
from tests.same import assert_same
from tests.step_contract import CNN, LAWS, VARIETY, VIT, Case

REGISTERED = contract.cases()

every_case = pytest.mark.parametrize("case", REGISTERED, ids=str)


def keeps_the_contract(case: Case) -> None:
    """Every law, and batches of every kind; a state goes on from its copy, if there is one."""
    for law in LAWS:
        with named(law.__name__):
            law(case)
    for name, change in VARIETY.items():
        with named(name):
            contract.a_loss_and_a_share_for_each_image(replace(case, **change))
    if keeps_state(case.action):
        contract.a_state_goes_on_from_its_copy(case)


# What is registered ------------------------------------------------------------------------------


@every_case
def test_a_registered_step_keeps_the_contract(case):
    keeps_the_contract(case)


@pytest.mark.parametrize("method", sorted({case.method for case in REGISTERED}))
def test_a_registered_step_trains_beside_others_as_alone_and_goes_on_from_a_snapshot(method):
    forms = {(case.model, case.guided) for case in REGISTERED if case.method == method}
    for model, guided in sorted(forms):
        action = MixAction(method, 0.5, "spectral" if guided else OFF)
        # The transformer here draws while it trains.
        model = {CNN: CNN, VIT: "vit_of_three_blocks"}[model]
        with named(action, model):
            together, (own, plain) = trained(model, action, PLAIN)
            (alone,), (nothing,) = (trained(model, one)[1] for one in (action, PLAIN))
            assert own.val_loss == pytest.approx(alone.val_loss, rel=1e-4)
            assert plain.val_loss == pytest.approx(nothing.val_loss, rel=1e-4)
            assert own.forward_passes == alone.forward_passes >= plain.forward_passes
            assert own.backward_passes == alone.backward_passes >= plain.backward_passes
            assert own.train_loss != pytest.approx(plain.train_loss, rel=1e-6)
            kept = together.state_dict()
            actions = [action, MixAction("cutmix", 0.5)]
            after, end = together.run_epoch(actions), together.state_dict()
            together.load_state_dict(kept)
            assert together.run_epoch(actions) == after
            assert_same(together.state_dict(), end)


def trained(model, *actions):
    """Members that are alike, but for what they are trained by for an epoch."""
    settings = tiny.trainer_settings(model=model)
    population = Population([digits(36)] * len(actions), settings)
    population.reset([3] * len(actions))
    return population, population.run_epoch(list(actions))


# Stand-ins that keep it --------------------------------------------------------------------------


def own_blend(net, step: Step) -> StepLoss:
    """Blend the images in one step, with a look at the clean ones before."""
    with unseen(net), torch.no_grad():
        net(step.images)
    lam = step.own_share
    each = lam[:, None, None, None]
    images = each * step.images + (1 - each) * step.images[step.partner]
    return StepLoss(soft_losses(net(images), step.mixed_targets(lam)), lam, (1, 0))


def own_adversary(net, step: Step) -> StepLoss:
    """Move the images up the slope of the loss, and train on them."""
    images = step.images.clone().requires_grad_()
    with unseen(net):
        (slope,) = torch.autograd.grad(soft_losses(net(images), step.targets).sum(), images)
    moved = step.images + 0.1 * slope.sign() * float(step.rng.random())
    return StepLoss(soft_losses(net(moved), step.targets), torch.ones(len(moved)), (1, 1))


def own_average(net, step: Step) -> StepLoss:
    """Pull the answers towards those of the moving average."""
    told = own_blend(net, step)
    step.state.seen += 1
    with torch.no_grad():
        theirs = step.state.net(step.images).float().softmax(1)
    pull = (theirs * step.state.noise.float()).sum(1) / step.state.seen
    return replace(told, losses=told.losses + pull, passes=(2, 0))


class Average:
    """A moving average of the weights, a count and a random number for each class."""

    def __init__(self, setup):
        self.net, self.seen = setup.net.eval(), 0
        self.noise = torch.from_numpy(np.random.default_rng(setup.seed).random(setup.classes))

    @torch.no_grad()
    def follow(self, weights):
        for name, value in self.net.named_parameters():
            value.lerp_(weights[name], 0.5)

    def state_dict(self):
        return {
            "net": {name: value.clone() for name, value in self.net.state_dict().items()},
            "seen": self.seen,
            "noise": [float(one) for one in self.noise],
        }

    def load_state_dict(self, state):
        self.net.load_state_dict(state["net"])
        self.seen = state["seen"]
        self.noise = torch.tensor(state["noise"], dtype=torch.float64)


def registering(monkeypatch):
    """Return what registers a method until the end of the test."""
    list(MIXES)  # discover what there is before the copy
    monkeypatch.setattr(MIXES, "_entries", dict(MIXES._entries))
    configured.cache_clear()  # it knows methods by their names
    return MIXES.register


@pytest.mark.parametrize("model", [CNN, VIT])
@each("method, state", [(own_blend, {}), (own_adversary, {}), (own_average, {"state": Average})])
def test_a_good_step_keeps_the_contract(monkeypatch, method, state, model):
    registering(monkeypatch)("good", MixInfo(step=True, **state))(method)
    keeps_the_contract(Case(method="good", model=model))


def test_methods_are_tried_on_the_nets_that_have_what_they_require(monkeypatch):
    before, register = contract.cases(), registering(monkeypatch)
    register("on_both", MixInfo(step=True, requires=("features",), guided=True))(own_blend)
    found = [case for case in contract.cases() if case not in before]
    assert {(case.model, case.guided) for case in found} == {
        (model, guided) for model in (CNN, VIT) for guided in (False, True)
    }
    monkeypatch.setitem(contract.ABILITIES, "attention", lambda net: hasattr(net, "blocks"))
    register("on_tokens", MixInfo(step=True, requires=("attention",)))(own_blend)
    assert [case.model for case in contract.cases() if case.method == "on_tokens"] == [VIT]


def test_the_nets_of_the_contract_are_one_that_is_grouped_and_one_that_is_not():
    assert contract.grouped(Case(method="none"))
    assert not contract.grouped(Case(method="none", model=VIT))


# Some that break it ------------------------------------------------------------------------------


def plain(net, step: Step) -> torch.Tensor:
    return soft_losses(net(step.images), step.targets)


def one_loss(net, step):
    return StepLoss(plain(net, step).mean()[None], step.own_share)


def shares_beyond_one(net, step):
    return StepLoss(plain(net, step), step.own_share + 1)


def no_graph(net, step):
    return StepLoss(plain(net, step).detach(), step.own_share)


def slopes_for_the_head_alone(net, step):
    found = net.forward_features(step.images).detach()
    return StepLoss(soft_losses(net.forward_head(found), step.targets), step.own_share)


def slopes_left_behind(net, step):
    with unseen(net):
        plain(net, step).mean().backward()
    return StepLoss(plain(net, step), step.own_share, (1, 1))


def half_precision(net, step):
    return StepLoss(net(step.images).square().mean(1), step.own_share)


def global_draws(net, step):
    return StepLoss(plain(net, step) * (1 + torch.rand(())), step.own_share)


def writes_images(net, step):
    step.images.clamp_(-1, 1)
    return StepLoss(plain(net, step), step.own_share)


def writes_weights(net, step):
    with torch.no_grad():
        next(net.parameters()).mul_(0.9)
    return StepLoss(plain(net, step), step.own_share)


def leaves_evaluation_mode(net, step):
    losses = plain(net, step)
    net.eval()
    return StepLoss(losses, step.own_share)


def seen_twice(net, step):
    with torch.no_grad():
        net(step.images)
    return StepLoss(plain(net, step), step.own_share, (1, 0))


def silent_pass(net, step):
    with unseen(net), torch.no_grad():
        net(step.images)
    return StepLoss(plain(net, step), step.own_share)


def told_too_much(net, step):
    return StepLoss(plain(net, step), step.own_share, (1, 1))


def silent_slopes(net, step):
    return replace(own_adversary(net, step), passes=(1, 0))


MISTAKES = {
    one_loss: (contract.a_loss_and_a_share_for_each_image, "shape"),
    shares_beyond_one: (contract.a_loss_and_a_share_for_each_image, "share outside"),
    no_graph: (contract.a_loss_and_a_share_for_each_image, "no graph"),
    slopes_for_the_head_alone: (
        contract.slopes_reach_every_weight_that_a_plain_step_reaches,
        "no slope reaches",
    ),
    slopes_left_behind: (
        contract.slopes_reach_every_weight_that_a_plain_step_reaches,
        "leaves slopes",
    ),
    half_precision: (contract.losses_are_float32_under_autocast, "bfloat16"),
    global_draws: (contract.equal_draws_give_equal_steps, "differ"),
    writes_images: (contract.nothing_that_is_given_is_modified, "images were written"),
    writes_weights: (contract.nothing_that_is_given_is_modified, "was written to"),
    leaves_evaluation_mode: (contract.nothing_that_is_given_is_modified, "mode"),
    seen_twice: (contract.running_statistics_see_what_is_trained_on, "2} times in 1 passes"),
    silent_pass: (contract.passes_are_those_that_were_made, "1 forward passes are told"),
    told_too_much: (contract.passes_are_those_that_were_made, "2 forward passes are told"),
    silent_slopes: (contract.passes_are_those_that_were_made, "1 backward passes are told"),
}


@each("method", MISTAKES)
def test_a_mistake_is_found(monkeypatch, method):
    registering(monkeypatch)("bad", MixInfo(step=True))(method)
    found_by, told = MISTAKES[method]
    with pytest.raises(AssertionError, match=told):
        found_by(Case(method="bad"))


def test_two_passes_that_train_may_both_be_recorded(monkeypatch):
    def both(net, step):
        clean, told = plain(net, step), own_blend(net, step)
        return replace(told, losses=told.losses + clean, passes=(2, 1))

    registering(monkeypatch)("both", MixInfo(step=True))(both)
    for law in LAWS:
        with named(law.__name__):
            law(Case(method="both"))


class Forgetful(Average):
    def load_state_dict(self, state):
        self.net.load_state_dict(state["net"])
        self.seen = state["seen"]


class Shared(Average):
    def state_dict(self):
        return {**super().state_dict(), "net": self.net.state_dict()}


class Strange(Average):
    def state_dict(self):
        return {**super().state_dict(), "noise": np.zeros(3)}


@each(
    "state, told",
    [(Forgetful, "not what was kept"), (Shared, "has moved"), (Strange, "noise is a ndarray")],
)
def test_a_mistake_of_a_state_is_found(monkeypatch, state, told):
    registering(monkeypatch)("bad", MixInfo(step=True, state=state))(own_average)
    with pytest.raises(AssertionError, match=told):
        contract.a_state_goes_on_from_its_copy(Case(method="bad"))
