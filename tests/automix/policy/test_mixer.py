"""A schedule in a training loop: draws, progress, workers and ranks, and what is forgotten."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils.data import DataLoader, TensorDataset, default_collate

from automix.core.errors import ConfigError
from automix.core.seeding import generator
from automix.mixing.actions import MixAction
from automix.mixing.batch import MixSettings, mix_batch
from automix.policy import mixer as module
from automix.policy.mixer import ScheduleMixer
from automix.policy.schedule import MixSchedule
from tests.cases import each

ACTIONS = [MixAction.parse(text) for text in ("none", "mixup@0.25", "rmix@0.5+spectral", "none")]
IMAGES = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(6)


def mixer_of(*actions: str, **given) -> ScheduleMixer:
    schedule = MixSchedule([MixAction.parse(action) for action in actions])
    return schedule.mixer(6, **given)


def drawn(mixer: ScheduleMixer) -> tuple[float, ...]:
    """Return the own shares of one batch: they tell one draw from another."""
    return tuple(mixer(IMAGES, LABELS)[1].diagonal().tolist())


def test_the_mixer_plays_what_the_schedule_says():
    """One call of it is one call of mix_batch with the action of the moment."""
    mixer = MixSchedule(ACTIONS).mixer(num_classes=6, seed=5)
    assert mixer.action == ACTIONS[0]
    for epoch, action in enumerate(ACTIONS):
        mixer.set_progress(epoch / 4)
        assert mixer.action == action
        bits = int(np.float64(epoch / 4).view(np.uint64))
        rng = generator(5, "schedule mixer", bits, 0, 0, 0)
        for _ in range(2):
            got, targets = mixer(IMAGES, LABELS)
            wanted = mix_batch(IMAGES, LABELS, action, num_classes=6, rng=rng)
            assert torch.equal(got, wanted.images)
            assert torch.equal(targets, wanted.targets)
    mixer.set_progress(1.1)
    assert mixer.action == ACTIONS[-1]


def test_a_training_that_is_resumed_draws_as_if_it_had_not_stopped():
    def epochs(first: int) -> list[tuple[float, ...]]:
        mixer = mixer_of("mixup", "cutmix", seed=3)
        found = []
        for epoch in range(first, 4):
            mixer.set_progress(epoch / 4)
            found += [drawn(mixer) for _ in range(3)]
        return found

    whole = epochs(0)
    assert epochs(2) == whole[6:]
    assert len(set(whole)) == 12


def test_a_progress_that_is_told_again_does_not_begin_again():
    mixer = mixer_of("mixup")
    seen = set()
    for _ in range(4):
        mixer.set_progress(0.5)
        seen.add(drawn(mixer))
    assert len(seen) == 4


@each("twin", [copy.deepcopy, lambda mixer: pickle.loads(pickle.dumps(mixer))])
def test_a_copy_goes_on_alone(twin):
    mixer = mixer_of("mixup", "cutmix")
    mixer.set_progress(0.5)
    drawn(mixer)
    other = twin(mixer)
    assert drawn(other) == drawn(mixer)
    other.set_progress(0)
    assert (str(other.action), str(mixer.action)) == ("mixup@0.5", "cutmix@0.5")


class Collate:
    """What the torch gallery recommends for its own mixes, and a spawned worker can be sent."""

    def __init__(self, mixer: ScheduleMixer) -> None:
        self.mixer = mixer

    def __call__(self, samples: list[tuple[Tensor, Tensor]]) -> Tensor:
        return self.mixer(*default_collate(samples))[1].diagonal()


def epochs_of(mixer: ScheduleMixer, tell: bool = True, **workers) -> list[list[tuple[float, ...]]]:
    """Return the own shares of four equal batches in each of three epochs."""
    data = TensorDataset(IMAGES.repeat(4, 1, 1, 1), LABELS.repeat(4))
    loader = DataLoader(data, 6, collate_fn=Collate(mixer), **workers)
    found = []
    for epoch in range(3):
        if tell:
            mixer.set_progress(epoch / 3)
        found.append([tuple(shares.tolist()) for shares in loader])
    return found


def check_epochs(found: list[list[tuple[float, ...]]]) -> None:
    """In the first epoch nothing is mixed, in the others no two batches alike."""
    assert {share for batch in found[0] for share in batch} == {1.0}
    assert len({*found[1], *found[2]}) == 8
    assert all(min(batch) < 1 for batch in found[1] + found[2])


WORKERS = ({}, {"persistent_workers": True}, {"persistent_workers": True, "prefetch_factor": 1})


@each("workers", WORKERS)
def test_workers_hear_of_progress_and_draw_nothing_twice(workers):
    def epochs() -> list[list[tuple[float, ...]]]:
        mixer = mixer_of("none", "mixup", "mixup", seed=2)
        return epochs_of(mixer, num_workers=2, multiprocessing_context="fork", **workers)

    found = epochs()
    check_epochs(found)
    torch.manual_seed(99)  # the draws belong to the mixer's seed, whatever torch's is
    assert epochs() == found


@pytest.mark.slow
@pytest.mark.parametrize("workers", WORKERS[:2])
def test_spawned_workers_hear_of_progress_too(workers):
    mixer = mixer_of("none", "mixup", "mixup")
    check_epochs(epochs_of(mixer, num_workers=2, multiprocessing_context="spawn", **workers))


@each("workers", WORKERS[:2])
def test_workers_of_a_schedule_that_is_told_nothing_draw_nothing_twice(workers):
    """Which one of a single action need not be."""
    fork = {"num_workers": 2, "multiprocessing_context": "fork"}
    found = epochs_of(mixer_of("mixup"), tell=False, **fork, **workers)
    assert len({batch for epoch in found for batch in epoch}) == 12


def as_rank(monkeypatch: pytest.MonkeyPatch, rank: int | None) -> None:
    monkeypatch.setattr(module.distributed, "is_initialized", lambda: rank is not None)
    monkeypatch.setattr(module.distributed, "get_rank", lambda: rank)


def test_ranks_draw_differently_and_play_the_same(monkeypatch):
    draws = {}
    for rank in (None, 0, 1, 7):
        mixer = mixer_of("none", "mixup")
        as_rank(monkeypatch, rank)
        mixer.set_progress(0.5)
        assert str(mixer.action) == "mixup@0.5"
        draws[rank] = drawn(mixer)
        sent = pickle.dumps(mixer_of("mixup"))
        as_rank(monkeypatch, None)  # a spawned worker is no part of the group
        begun = pickle.loads(sent)
        begun.set_progress(0.5)
        assert drawn(begun) == draws[rank]
    assert draws[None] == draws[0]
    assert len(set(draws.values())) == 3


def test_a_rank_that_was_started_from_here_tells_its_own_progress(monkeypatch):
    """What lies in shared memory is shared with workers, not between ranks."""
    mixer = mixer_of("none", "mixup")
    rank = copy.copy(mixer)  # the same memory, as a process has it that is sent the mixer
    monkeypatch.setattr(module.os, "getpid", lambda: -1)
    rank.set_progress(0.5)
    assert (str(rank.action), str(mixer.action)) == ("mixup@0.5", "none")


# What is forgotten -------------------------------------------------------------------------------


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_a_progress_that_nobody_tells_is_missed_once(caplog):
    mixer = mixer_of("none", "mixup")
    for _ in range(2 * module.ENOUGH):
        mixer(IMAGES, LABELS)
    (line,) = lines_of(caplog)
    assert "set_progress was never called: the schedule stays on its first action, none" in line


@each("actions, told", [(("mixup", "mixup"), False), (("none",), False), (("none", "mixup"), True)])
def test_a_progress_that_does_not_matter_or_was_told_is_not_missed(caplog, actions, told):
    mixer = mixer_of(*actions)
    if told:
        mixer.set_progress(0)
    for _ in range(2 * module.ENOUGH):
        mixer(IMAGES, LABELS)
    assert lines_of(caplog) == []


def test_an_epoch_in_the_place_of_progress_is_told_once(caplog):
    mixer = mixer_of("none", "mixup")
    for epoch in (0, 1, 1.05):
        mixer.set_progress(epoch)
    assert lines_of(caplog) == []
    for epoch in (2, 3, 4):
        mixer.set_progress(epoch)
    (line,) = lines_of(caplog)
    assert "the progress of the schedule is 2: it is over and stays on mixup@0.5" in line


@each(
    "actions, first",
    [
        (("none", "none", "rmix@0.5+gradient"), "rmix@0.5+gradient from 2 of 3 epochs on"),
        (("cutmix+spectral", "snapmix"), "asymmetric_cutmix@0.5+cam:cam_mass from 1 of 2"),
        (("none", "mixup+attention_cls", "mixup"), "mixup@0.5+attention_cls from 1 of 3"),
    ],
)
def test_a_classifier_that_is_needed_later_is_told_of_at_once(caplog, actions, first):
    mixer_of(*actions)
    (line,) = lines_of(caplog)
    assert f"the schedule plays {first}" in line
    assert "needs a classifier" in line


@each("actions", [("mixup+gradient", "none"), ("none", "cutmix+spectral"), ("none", "mixup")])
def test_a_classifier_that_is_needed_now_or_never_is_not_told_of(caplog, actions):
    mixer_of(*actions)
    assert lines_of(caplog) == []


def test_a_mixer_that_needs_a_classifier_asks_for_one():
    mixer = mixer_of("cutmix@0.5+gradient")
    with pytest.raises(ConfigError, match="needs a classifier"):
        mixer(IMAGES, LABELS)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 6))
    assert mixer(IMAGES, LABELS, classifier=net)[0].shape == IMAGES.shape


@each("late", ["transmix", "tlalign", "cutmix:perturbed_attention", "mixup:attention"])
def test_a_label_rule_that_looks_inside_the_net_refuses_a_plain_call_from_the_start(late):
    mixer = mixer_of("none", late)
    with pytest.raises(ConfigError, match="whose label rule looks inside the net") as error:
        mixer(IMAGES, LABELS)
    assert "mixed.revised.asked(model" in error.value.hint
    assert mixer.mixed(IMAGES, LABELS).revised is None
    mixer.set_progress(0.5)
    assert mixer.mixed(IMAGES, LABELS).revised is not None


def test_a_rule_that_is_set_not_to_look_takes_a_plain_call():
    settings = MixSettings(label_rule="attention", options=["attention.strength=0.0"])
    assert mixer_of("none", "cutmix", settings=settings)(IMAGES, LABELS)


@each(
    "late, settings, told",
    [
        ("cutmix@0.5+ema", {}, "saliency 'ema' is part of a training"),
        ("cutmix@0.5", {"label_rule": "saliency_mass"}, "cutmix@0.5 names none"),
    ],
)
def test_a_mixer_refuses_what_only_a_late_epoch_would_play(late, settings, told):
    with pytest.raises(ConfigError, match=told):
        mixer_of("none", late, settings=MixSettings(**settings))


@each("given", [{"num_classes": k} for k in ("10", 0, None, -3, True, 2.0)] + [{"seed": -1}])
def test_a_mixer_refuses_classes_and_seeds_that_are_none(given):
    (name,) = given
    with pytest.raises(ConfigError, match=f"{name} is {given[name]!r}, wanted"):
        MixSchedule(ACTIONS).mixer(**({"num_classes": 6} | given))


def test_the_classifier_has_its_say_where_the_rule_lets_it():
    """The area counts 0.4 and the classifier 0.6, as the options say."""
    settings = MixSettings(options=["perturbed.strength=0.6", "perturbed.noise=0"])
    images, labels = torch.rand(4, 1, 8, 8), torch.arange(4)
    schedule = MixSchedule([MixAction.parse("mixup@0.5:perturbed")])
    first, second = (schedule.mixer(4, seed=1, settings=settings) for _ in range(2))
    mixed = first.mixed(images, labels)
    assert mixed.revised is not None
    assert torch.equal(second(images, labels)[1], mixed.targets)
    sure = 50.0 * torch.eye(4)  # of the own class
    revised = mixed.revised(sure, slice(None))
    assert_close(revised.diagonal(), 0.4 * mixed.lam + 0.6)
    assert_close(revised.sum(1), torch.ones(4))
