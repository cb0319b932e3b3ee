"""Whole trainings under every label rule and loss: alone, side by side, and from a snapshot."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from automix.labels import LABEL_RULES
from automix.mixing.actions import PLAIN, MixAction
from automix.mixing.batch import MixSettings
from automix.training.optimising.target_memory import TargetMemory
from automix.training.population import Population, Trainer
from automix.training.settings import MarginSettings, SaliencySettings, SelfAdaptiveSettings
from tests import tiny
from tests.automix.training.helpers import (
    assert_close,
    digits,
    ensemble_of,
    epoch_of,
    member_of,
    order,
    play_epoch,
)
from tests.cases import each
from tests.same import assert_same

DROPOUT = "dropout_vit_for_tests"
SAME, OTHER, LONG = digits(32), digits(32, seed=4), digits(33)
WHO = [(SAME, 0), (OTHER, 1), (SAME, 0), (LONG, 2)]


def form_of(rule: str, method: str = "cutmix", guide: str = "gradient") -> MixAction:
    needs_maps = LABEL_RULES.info(rule).needs_maps
    return MixAction.parse(f"{method}@0.5{f'+{guide}' * needs_maps}:{rule}")


def net_of(rule: str) -> dict[str, Any]:
    """The settings that let a rule see what it must."""
    return {"model": "vit_digits"} if LABEL_RULES.info(rule).requires else {}


RULES = {rule: form_of(rule) for rule in LABEL_RULES}
LOSSES = {
    "margin": {"margin": MarginSettings(weight=0.5, margin=1.0)},
    "self_adaptive": {"self_adaptive": SelfAdaptiveSettings(start_epoch=1, momentum=0.5)},
    "both": {
        "margin": MarginSettings(weight=0.5, margin=1.0),
        "self_adaptive": SelfAdaptiveSettings(start_epoch=1, momentum=0.5),
        "saliency": SaliencySettings(refresh=2),
    },
}
GRADIENT = MixAction("rmix", 0.5, "gradient")
CASES = {
    **{
        rule: (net_of(rule), action)
        for rule, action in RULES.items()
        if rule not in ("area", "requested")
    },
    **{loss: (changes, MixAction("cutmix", 0.5)) for loss, changes in LOSSES.items()},
    "both, guided": (LOSSES["both"], GRADIENT),
    "both, perturbed": (LOSSES["both"], form_of("perturbed", "mixup")),
    "both, cam_mass": (LOSSES["both"], form_of("cam_mass", "mixup", "spectral")),
    "both, visibility": (LOSSES["both"], form_of("visibility")),
    "both, token_aligned": (
        LOSSES["both"] | {"model": "vit_digits"},
        MixAction.parse("rmix@0.5+gradient:token_aligned"),
    ),
    "off the step, attention": (
        {"model": "vit_digits", "saliency": SaliencySettings(source="step")},
        MixAction.parse("rmix@0.5+gradient:attention"),
    ),
    "dropout, attention": ({"model": DROPOUT}, form_of("attention")),
    "dropout, perturbed_token_aligned": ({"model": DROPOUT}, form_of("perturbed_token_aligned")),
    "bfloat16, token_aligned": (
        {"model": "vit_digits", "precision": "bfloat16"},
        form_of("token_aligned", "token_cutmix"),
    ),
}


def settings_of(changes):
    return tiny.trainer_settings(**{"epochs": 3, "lr": 0.05} | changes)


def plays_of(action):
    """Two epochs; in the second two that share batches play the same, with other weights."""
    return [[action, action, MixAction("mixup", 0.3), PLAIN], [action, PLAIN, action, action]]


def everyone(changes):
    population = Population([task for task, _ in WHO], settings_of(changes))
    return population, population.reset([seed for _, seed in WHO])


@pytest.mark.parametrize(("changes", "action"), CASES.values(), ids=CASES)
def test_a_rule_or_loss_trains_side_by_side_as_alone_goes_on_bit_by_bit_and_matters(
    changes, action
):
    population, first = everyone(changes)
    epochs = plays_of(action)
    together = [first, population.run_epoch(epochs[0])]
    snapshot = population.state_dict()
    kept = copy.deepcopy(snapshot)
    together.append(population.run_epoch(epochs[1]))
    restored, _ = everyone(changes)
    restored.load_state_dict(snapshot)
    assert restored.run_epoch(epochs[1]) == together[2]
    assert_same(restored.state_dict(), population.state_dict())
    assert_same(snapshot, kept)
    by_member = [
        records_alone(member, changes, [plays[member] for plays in epochs])
        for member in range(len(WHO))
    ]
    for member, wanted in enumerate(by_member):
        for got, one in zip(together, wanted, strict=True):
            assert not one.diverged
            assert_close(got[member], one)
    # The first member plays the same twice; alone, as in a stack float order makes a difference.
    alike = {name: value for name, value in changes.items() if name in ("model", "precision")}
    plain = records_alone(0, alike, [MixAction(action.method, 0.5, action.saliency)] * 2)
    assert [r.mixed_loss for r in plain] != [r.mixed_loss for r in by_member[0]]


def records_alone(member, changes, actions):
    task, seed = WHO[member]
    trainer = Trainer(task, settings_of(changes))
    return [trainer.reset(seed), *(trainer.run_epoch(action) for action in actions)]


def test_a_margin_that_nothing_exceeds_changes_nothing():
    wide = {"margin": MarginSettings(weight=0.5, margin=1e6)}
    trainers = [Trainer(SAME, settings_of(changes)) for changes in (wide, {})]
    records = []
    for trainer in trainers:
        trainer.reset(0)
        records.append(trainer.run_epoch(PLAIN))
    assert records[0] == records[1]


def test_a_penalty_is_part_of_the_loss_that_is_logged():
    tight = {"margin": MarginSettings(weight=5.0, margin=0.0)}
    logged = []
    for changes in (tight, {}):
        trainer = Trainer(SAME, settings_of(changes | {"lr": 0.0}))
        trainer.reset(0)
        logged.append(trainer.run_epoch(PLAIN).mixed_loss)
    assert logged[0] > logged[1] + 0.01


@each("guide", ["", "+spectral", "+gradient"])
def test_batches_bring_what_revises_their_own_targets(guide):
    """Those mixed ahead, many batches at once, and those mixed step by step."""
    words = MixSettings(options=["perturbed.strength=1", "perturbed.noise=0"])
    population = Population([SAME], settings_of({"mix": words}))
    population.reset([0])
    labels = torch.from_numpy(SAME.train_labels[order(SAME, 0, 0)]).split(tiny.BATCH_SIZE)
    action = MixAction.parse(f"mixup@0.5{guide}:perturbed")
    with epoch_of(ensemble_of(population), [action]) as (batches, _):
        for batch, own in zip(batches, labels, strict=True):
            ((members, revised, rows),) = batch.revisions
            assert list(members) == [0]
            targets = revised(torch.zeros(tiny.BATCH_SIZE, 10), rows)
            wanted = (torch.eye(10)[own] + torch.eye(10)[own.roll(1)]) / 2
            torch.testing.assert_close(targets, wanted)


def test_maps_are_asked_for_with_the_targets_that_a_member_has_come_to():
    batches = []
    for moved in (False, True):
        population = Population([SAME], settings_of({}))
        population.reset([0])
        if moved:
            memory = TargetMemory(torch.eye(10)[torch.from_numpy(SAME.train_labels)])
            memory.move(torch.eye(10).roll(1, 0)[torch.from_numpy(SAME.train_labels)], 0.0)
            member_of(population).memory = memory
        batches.append(play_epoch(ensemble_of(population), [GRADIENT])[0][0])
    assert not torch.equal(*batches)


# Nets that are watched --------------------------------------------------------------------------

WATCHED = [
    form_of("attention"),
    form_of("token_aligned", "token_cutmix"),
    form_of("perturbed_attention", "mixup"),
    form_of("perturbed_token_aligned"),
    form_of("perturbed"),
    MixAction("cutmix", 0.5),
]


def records_of(model: str, *actions: MixAction):
    """Two epochs of members with one task and seed, side by side."""
    population = Population([SAME] * len(actions), settings_of({"model": model}))
    population.reset([3] * len(actions))
    return [population.run_epoch(actions) for _ in range(2)]


def test_members_that_play_different_rules_do_not_change_each_other():
    together = records_of(DROPOUT, *WATCHED)
    assert len({member.mixed_loss for member in together[0]}) == len(WATCHED)
    for slot, action in enumerate(WATCHED):
        for many, (one,) in zip(together, records_of(DROPOUT, action), strict=True):
            assert_close(many[slot], one)


@each("action", WATCHED[:2])
def test_a_net_that_is_watched_takes_no_further_pass(action):
    ((watched, plain),) = records_of("vit_digits", action, MixAction("cutmix", 0.5))[:1]
    assert watched.forward_passes == plain.forward_passes
    assert watched.backward_passes == plain.backward_passes


def test_a_net_that_is_watched_is_trained_on_what_the_rule_makes_of_its_attention():
    """The step's loss, made anew from the batch and the net before it."""
    population = Population([SAME], settings_of({"model": "vit_digits"}))
    population.reset([0])
    ensemble = ensemble_of(population)
    net = ensemble._stack.module()[0]
    for block in net.blocks:  # as it begins, each looks everywhere nearly alike
        block.attn.qkv.weight.data *= 30
    with epoch_of(ensemble, [form_of("token_aligned")]) as (batches, log):
        for batch in batches:
            ((_, revised, rows),) = batch.revisions
            logits, targets = revised.asked(net, batch.images[:, 0], rows)
            assert float((targets - batch.targets[:, 0]).abs().max()) > 0.02
            wanted = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
            watched = Watched(log)
            ensemble._step(batch, watched)
            torch.testing.assert_close(watched.losses[:, 0], wanted.detach())


class Watched:
    """A log that keeps the losses of the last step."""

    def __init__(self, log):
        self._log = log

    def stepped(self, losses):
        self.losses = losses
        self._log.stepped(losses)

    def __getattr__(self, name):
        return getattr(self._log, name)
