"""Self-adaptive targets: what is remembered, who moves it, what it costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from automix.core.seeding import generator
from automix.mixing.actions import PLAIN, MixAction
from automix.training.optimising.target_memory import TargetMemory
from automix.training.population import Population
from automix.training.settings import SelfAdaptiveSettings
from tests import tiny
from tests.automix.training.helpers import digits, ensemble_of, member_of, order, play_epoch
from tests.references import losses as references
from tests.strategies import SEEDS

CUTMIX = MixAction("cutmix", 0.5)
SHORT = digits(64)
LONG = digits(65)
"""An epoch of it trains on 64 images."""


def probabilities(seed: int, *path: str) -> torch.Tensor:
    drawn = generator(seed, *path).dirichlet(np.ones(4), 6).astype(np.float32)
    return torch.from_numpy(drawn)


@given(seed=SEEDS, momentum=st.sampled_from([0.9, 0.0, 1.0]))
def test_targets_and_weights_are_their_slow_twins(seed, momentum):
    start, said = probabilities(seed), [probabilities(seed, str(i)) for i in range(3)]
    memory, wanted = TargetMemory(start), start.tolist()
    for one in said:
        memory.move(one, momentum)
        wanted = [
            references.moved(t, p, momentum) for t, p in zip(wanted, one.tolist(), strict=True)
        ]
    index = torch.tensor([4, 0, 2])
    weights = references.weights(wanted)
    got = memory.targets(index)
    for row, i in zip(got.tolist(), index.tolist(), strict=True):
        assert row == pytest.approx([weights[i] * t for t in wanted[i]], abs=1e-5)
    assert_close(memory.targets(torch.arange(6)).sum(1).mean(), torch.tensor(1.0))


def test_what_is_remembered_is_nobody_elses():
    start = probabilities(0)
    memory = TargetMemory(start)
    state = memory.state_dict()
    copy = TargetMemory(probabilities(2))
    copy.load_state_dict(state)
    memory.move(probabilities(1), 0.5)
    assert torch.equal(start, probabilities(0))
    assert torch.equal(state["targets"], start)
    copy.move(probabilities(1), 0.5)
    everyone = torch.arange(6)
    assert torch.equal(copy.targets(everyone), memory.targets(everyone))


# In a training ----------------------------------------------------------------------------------


def adapting(tasks, seeds, start=1, **changes):
    settings = tiny.trainer_settings(
        self_adaptive=SelfAdaptiveSettings(start_epoch=start, momentum=0.6), **changes
    )
    population = Population(tasks, settings)
    return population, population.reset(seeds)


def test_targets_move_towards_what_the_classifier_says_of_the_images_as_they_are():
    population, _ = adapting([LONG, SHORT, SHORT], [0, 0, 1])
    population.run_epoch([CUTMIX, PLAIN, CUTMIX])
    for member, task in enumerate((LONG, SHORT, SHORT)):
        images = task.normalised(task.train_index)
        said = population.logits(images, [member])[:, 0].softmax(1)
        start = torch.eye(10)[torch.from_numpy(task.train_labels)]
        wanted = 0.6 * start + 0.4 * said
        got = member_of(population, member).memory.state_dict()["targets"]
        assert_close(got, wanted, atol=1e-5, rtol=1e-4)


def test_members_that_share_batches_train_on_targets_of_their_own():
    population, _ = adapting([SHORT, SHORT], [0, 0], start=0)
    onehot = torch.eye(10)[torch.from_numpy(SHORT.train_labels)]
    for member in (0, 1):
        memory = TargetMemory(onehot)
        memory.move(torch.eye(10)[torch.full((64,), member)], 0.5)
        member_of(population, member).memory = memory
    rows = torch.from_numpy(order(SHORT, 0, 0))
    seen = torch.cat([t for _, t in play_epoch(ensemble_of(population), [PLAIN, PLAIN])])
    for member in (0, 1):
        assert_close(seen[:, member], member_of(population, member).memory.targets(rows))
    assert not torch.equal(seen[:, 0], seen[:, 1])


def test_own_and_partner_bring_their_targets_and_weights():
    population, _ = adapting([SHORT], [0])
    population.run_epoch([PLAIN])
    memory = member_of(population).memory
    ensemble, rows = ensemble_of(population), torch.from_numpy(order(SHORT, 0, 1))
    batches = play_epoch(ensemble, [MixAction("mixup", 0.5)])
    onehot = torch.eye(10)[torch.from_numpy(SHORT.train_labels)]
    plain, _ = adapting([SHORT], [0], start=0)
    plain.run_epoch([PLAIN])
    shares = [t[:, 0] for _, t in play_epoch(ensemble_of(plain), [MixAction("mixup", 0.5)])]
    different = 0
    for (_, targets), share, here in zip(batches, shares, rows.split(tiny.BATCH_SIZE), strict=True):
        partner = here.roll(1)
        own_class = onehot[here].argmax(1)
        lam = share.gather(1, own_class[:, None])  # of pairs of two classes
        mixed = lam * memory.targets(here) + (1 - lam) * memory.targets(partner)
        two = own_class != onehot[partner].argmax(1)
        assert_close(targets[two, 0], mixed[two])
        different += int(two.sum())
    assert different > 40


def test_the_look_at_the_training_images_is_counted():
    off, _ = adapting([LONG], [0], start=0)
    on, _ = adapting([LONG], [0], start=2)
    passes = [[p.run_epoch([PLAIN])[0].forward_passes for _ in range(4)] for p in (off, on)]
    assert [one - other for one, other in zip(passes[1], passes[0], strict=True)] == [0, 65, 65, 0]


def test_before_it_starts_the_training_is_the_same_bit_by_bit():
    off, _ = adapting([SHORT], [0], start=0)
    on, _ = adapting([SHORT], [0], start=3)
    for _ in range(2):
        assert on.run_epoch([CUTMIX]) == off.run_epoch([CUTMIX])
    assert member_of(on).memory is None
    on.run_epoch([CUTMIX])
    off.run_epoch([CUTMIX])
    assert on.run_epoch([CUTMIX])[0].mixed_loss != off.run_epoch([CUTMIX])[0].mixed_loss
    assert member_of(off).memory is None


def test_a_reset_forgets_the_targets():
    population, _ = adapting([SHORT, SHORT], [0, 1])
    population.run_epoch([PLAIN, PLAIN])
    population.reset([0], members=[0])
    assert member_of(population, 0).memory is None
    assert member_of(population, 1).memory is not None


def test_a_fork_takes_the_donors_targets():
    population, _ = adapting([SHORT, SHORT], [0, 1])
    population.run_epoch([PLAIN, CUTMIX])
    wanted = member_of(population, 1).memory.state_dict()["targets"]
    population.fork([1, 1])
    for member in (0, 1):
        assert torch.equal(member_of(population, member).memory.state_dict()["targets"], wanted)
    # They are copies: the two may go different ways.
    population.run_epoch([PLAIN, CUTMIX])
    one, other = (member_of(population, m).memory.state_dict()["targets"] for m in (0, 1))
    assert not torch.equal(one, other)
