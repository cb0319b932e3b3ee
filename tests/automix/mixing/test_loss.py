"""Steps of a method's own in a loop of one's own: by a schedule, a policy, or an action."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from automix.core.errors import ConfigError
from automix.core.seeding import generator
from automix.masks.method_steps import Step, StepLoss, soft_losses
from automix.mixes import MIXES, MixInfo
from automix.mixing.actions import MixAction
from automix.mixing.batch import MixSettings
from automix.mixing.loss import loss_of, new_state
from automix.policy.policy import MixPolicy, PolicyForm, load_policy, save_policy
from automix.policy.schedule import MixSchedule, load_schedule, save_schedule

IMAGES, LABELS = torch.rand(8, 1, 4, 4), torch.arange(8) % 4


def own_shift(net, step: Step, *, by: float = 1.0) -> StepLoss:
    """Train as it is, with a loss that is higher by a number."""
    return StepLoss(soft_losses(net(step.images), step.targets) + by, step.own_share)


def own_counting(net, step: Step) -> StepLoss:
    """Add how many steps there have been."""
    step.state.steps += 1
    return own_shift(net, step, by=float(step.state.steps))


class Steps:
    """Counts steps, and who followed."""

    def __init__(self, setup):
        self.steps = self.followed = 0

    def follow(self, weights):
        self.followed += len(weights)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    list(MIXES)  # discover what there is before the copy
    monkeypatch.setattr(MIXES, "_entries", dict(MIXES._entries))
    MIXES.register("own_shift", MixInfo(step=True))(own_shift)
    MIXES.register("own_counting", MixInfo(step=True, state=Steps))(own_counting)


def net() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 4))


def schedule() -> MixSchedule:
    texts = ("cutmix@0.5", "own_shift@0.5", "none")
    return MixSchedule(
        [MixAction.parse(text) for text in texts], settings=MixSettings(options=["own_shift.by=3"])
    )


def test_what_the_hint_says_plays_every_epoch_of_the_schedule(tmp_path):
    save_schedule(tmp_path / "schedule.yaml", schedule(), {})
    loaded, model, rng = load_schedule(tmp_path), net(), generator(0, "mix")
    shifted = []
    for progress in (0, 0.4, 0.8):
        action = loaded.at(progress)
        told = loss_of(
            *(model, IMAGES, LABELS, action), num_classes=4, rng=rng, settings=loaded.settings
        )
        plain = torch.nn.functional.cross_entropy(model(IMAGES), LABELS, reduction="none")
        shifted.append((told.losses - plain).mean().item())
        told.losses.mean().backward()
    assert shifted[1:] == pytest.approx([3.0, 0.0], abs=1e-5)


def test_a_policy_that_plays_such_a_step_is_saved_and_asked(tmp_path):
    form = PolicyForm(
        observations=["progress"],
        observation_sizes=[1],
        methods=["none", "own_shift"],
        ratios=[0.5],
        saliency=["off"],
        space="flat",
        choices=["none", "own_shift@0.5"],
    )
    layers = [(np.array([[0.0], [1.0]]), np.array([0.0, 0.1]))]
    save_policy(tmp_path, MixPolicy(form, layers, {}))
    action = load_policy(tmp_path).action(np.zeros(1))
    assert str(action) == "own_shift@0.5"
    told = loss_of(net(), IMAGES, LABELS, action, num_classes=4, rng=generator(0, "mix"))
    assert told.losses.shape == (8,)


def test_a_method_that_keeps_a_state_wants_one_and_says_where_it_comes_from():
    model, action = net(), MixAction.parse("own_counting@0.5")
    with pytest.raises(ConfigError, match="own_counting keeps something") as error:
        loss_of(model, IMAGES, LABELS, action, num_classes=4, rng=generator(0, "mix"))
    assert "automix.mixing.loss.new_state" in error.value.hint
    state = new_state(
        copy.deepcopy(model), "own_counting", classes=4, shape=(1, 4, 4), steps=2, seed=0
    )
    for steps in (1, 2):
        told = loss_of(
            model, IMAGES, LABELS, action, num_classes=4, rng=generator(0, "mix"), state=state
        )
        told.losses.mean().backward()
        state.follow(model.state_dict())
        assert (state.steps, state.followed) == (steps, 2 * steps)
