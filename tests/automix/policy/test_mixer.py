"""A schedule in a training loop: draws, progress, workers and ranks, and what is forgotten."""

from __future__ import annotations

import copy
import json
import math
import pickle
from dataclasses import asdict

import numpy as np
import pytest
import torch
from timm.data.mixup import mixup_target
from torch import Tensor
from torch.testing import assert_close
from torch.utils.data import DataLoader, TensorDataset, default_collate

from automix.core.errors import ConfigError, DataError
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


@each("by_epoch", [True, False])
def test_a_training_that_is_resumed_or_longer_draws_as_if_it_had_not_stopped(by_epoch):
    def epochs(first: int, planned: int = 4) -> list[tuple[float, ...]]:
        mixer, found = mixer_of("mixup", seed=3, epochs=planned), []
        for epoch in range(first, 4):
            if by_epoch:
                mixer.set_epoch(epoch)
            else:
                mixer.set_progress(epoch / 4)
            found += [drawn(mixer) for _ in range(3)]
        return found

    whole = epochs(0)
    assert epochs(2) == whole[6:]
    assert epochs(0, planned=9) == whole
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


def test_workers_that_run_hear_of_everything_that_is_set():
    mixer = mixer_of("mixup", epochs=9)
    mixer.set_epoch(0)
    data = TensorDataset(IMAGES, LABELS)
    loader = DataLoader(
        data,
        6,
        collate_fn=mixer.collate,
        num_workers=1,
        persistent_workers=True,
        multiprocessing_context="fork",
    )

    def diagonal() -> Tensor:
        ((_, targets),) = loader
        return targets.diagonal()

    assert diagonal().min() < 1
    mixer.mixup_enabled = False
    assert diagonal().min() == 1
    mixer.label_smoothing = 0.6
    assert_close(diagonal(), torch.full((6,), 0.5))
    mixer.label_smoothing, mixer.mixup_enabled, mixer.action = 0, True, "none"
    assert diagonal().min() == 1
    mixer.set_epoch(1)
    assert diagonal().min() < 1


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
    assert "set_progress was ever called: the schedule stays on its first action, none" in line


@each("actions, told", [(("mixup", "mixup"), False), (("none",), False), (("none", "mixup"), True)])
def test_a_progress_that_does_not_matter_or_was_told_is_not_missed(caplog, actions, told):
    mixer = mixer_of(*actions)
    if told:
        mixer.set_progress(0)
    for _ in range(2 * module.ENOUGH):
        mixer(IMAGES, LABELS)
    assert lines_of(caplog) == []


def test_an_epoch_is_its_share_of_the_budget_and_a_plan_that_is_over_is_told_once(caplog):
    by_epoch, by_progress = mixer_of("none", "mixup", epochs=6), mixer_of("none", "mixup")
    for epoch in range(9):
        assert by_epoch.set_epoch(epoch) is False
        by_progress.set_progress(epoch / 6)
        assert by_epoch.action == by_progress.action
    assert lines_of(caplog) == ["epoch 6 of 6: the schedule is over and stays on mixup@0.5"]
    with pytest.raises(ConfigError, match="how many epochs") as error:
        by_progress.set_epoch(0)
    assert "epochs=" in error.value.hint
    by_progress.set_epoch(3, epochs=6)
    by_epoch.set_epoch(3)
    assert drawn(by_progress) == drawn(by_epoch)
    with pytest.raises(ConfigError, match="nobody has told it which begins"):
        drawn(mixer_of("none", "mixup", epochs=6))


def test_an_action_that_is_set_holds_until_progress_is_told_and_is_checked():
    mixer = mixer_of("none", "mixup", epochs=2)
    for action in ("rmix@0.25p0.5+spectral:requested", MixAction("cutmix", 0.125)):
        mixer.action = action
        assert mixer.action == (MixAction.parse(action) if isinstance(action, str) else action)
    with pytest.raises(ConfigError, match="saliency 'ema' is part of a training"):
        mixer.action = "cutmix+ema"
    assert str(mixer.action) == "cutmix@0.125"
    mixer.action = "lumix"
    with pytest.raises(ConfigError, match="want the logits"):
        mixer(IMAGES, LABELS)
    mixer.set_epoch(0)
    assert (str(mixer.action), mixer.needs) == ("none", frozenset())
    mixer.action = "cutmix"
    mixer.set_epoch(0)  # as trainers do that tell it at every batch
    assert str(mixer.action) == "cutmix@0.5"
    mixer.set_epoch(1)
    assert str(mixer.action) == "mixup@0.5"


def test_without_mixing_images_pass_and_labels_are_smoothed_as_timm_does():
    mixer = mixer_of("mixup", label_smoothing=0.2)
    mixer.mixup_enabled = False
    images, targets = mixer(IMAGES, LABELS)
    assert torch.equal(images, IMAGES)
    assert_close(targets, mixup_target(LABELS, 6, smoothing=0.2))
    mixer.mixup_enabled = True
    lam = mixer_of("mixup").mixed(IMAGES, LABELS).lam[:, None]
    wanted = lam * targets + (1 - lam) * targets.roll(1, 0)
    assert_close(mixer(IMAGES, LABELS)[1], wanted)
    mixer.label_smoothing = 0
    assert torch.equal(mixer(IMAGES, LABELS)[1].sum(1), torch.ones(6))
    for wrong in (-0.1, 1.0, math.nan):
        with pytest.raises(ConfigError, match="label_smoothing is"):
            mixer.label_smoothing = wrong
        with pytest.raises(ConfigError, match="label_smoothing is"):
            mixer_of("mixup", label_smoothing=wrong)


def test_a_state_is_plain_and_a_mixer_goes_on_from_it():
    mixer = mixer_of("none", "mixup", epochs=4, seed=1)
    mixer.set_epoch(2)
    mixer.action, mixer.label_smoothing = MixAction("mixup", 1 / 3), 0.1
    drawn(mixer)
    state = json.loads(json.dumps(mixer.state_dict()))
    other = mixer_of("none", "mixup", epochs=4, seed=1)
    fresh, ema = other.state_dict(), asdict(MixAction.parse("cutmix+ema"))
    for wrong in (
        {},
        [state],
        state | {"told": [-1, 0]},
        state | {"told": [0.5, math.nan]},
        state | {"mixup_enabled": 1},
        state | {"action": ema},
    ):
        with pytest.raises(DataError, match="not the state of a mixer"):
            other.load_state_dict(wrong)
        assert other.state_dict() == fresh
    other.load_state_dict(state)
    assert other.action == MixAction("mixup", 1 / 3)
    assert drawn(other) == drawn(mixer)
    assert other.state_dict() == mixer.state_dict()


def test_collated_samples_are_a_batch_and_ask_no_classifier():
    samples = list(zip(IMAGES, LABELS.tolist(), strict=True))
    images, targets = mixer_of("mixup", seed=4).collate(samples)
    wanted = mixer_of("mixup", seed=4)(IMAGES, LABELS)
    assert torch.equal(images, wanted[0])
    assert torch.equal(targets, wanted[1])
    with pytest.raises(ConfigError, match="needs a classifier"):
        mixer_of("none", "cutmix+gradient").collate(samples)
    with pytest.raises(ConfigError, match="a sample is a dict, wanted an image and its label"):
        mixer_of("mixup").collate([{"image": IMAGES[0], "label": 1, "name": "x"}])


def test_an_epoch_in_the_place_of_progress_is_told_once(caplog):
    mixer = mixer_of("none", "mixup")
    for epoch in (0, 1, 1.05):
        mixer.set_progress(epoch)
    assert lines_of(caplog) == []
    for epoch in (2, 3, 4):
        mixer.set_progress(epoch)
    (line,) = lines_of(caplog)
    assert "the progress of the schedule is 2: it is over and stays on mixup@0.5" in line


@each("actions", [("rmix+gradient",), ("none", "snapmix"), ("none", "mixup+attention_cls")])
def test_a_classifier_that_is_needed_now_or_later_is_asked_for_from_the_first_batch_on(actions):
    mixer = mixer_of(*actions)
    assert mixer.needs == {"classifier"}
    with pytest.raises(ConfigError, match="now or in a later epoch, which needs a classifier"):
        mixer(IMAGES, LABELS)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 6))
    assert mixer_of("none", "cutmix+gradient")(IMAGES, LABELS, classifier=net)[0] is IMAGES


@each(
    "late, need",
    [
        *((rule, "attention") for rule in ("transmix", "cutmix:perturbed_token_aligned")),
        ("lumix", "logits"),
        ("manifold_mixup", "step"),
    ],
)
def test_what_only_a_loss_can_give_is_asked_for_from_the_first_batch_on(late, need):
    mixer = mixer_of("none", late)
    assert mixer.needs == {need}
    with pytest.raises(ConfigError, match="the schedule plays") as error:
        mixer(IMAGES, LABELS)
    assert "automix.MixedLoss(net, mixer)" in error.value.hint
    if need != "step":
        assert mixer.mixed(IMAGES, LABELS).revised is None
        mixer.set_progress(0.5)
        assert mixer.mixed(IMAGES, LABELS).revised is not None


def test_a_rule_that_is_set_not_to_look_takes_a_plain_call():
    settings = MixSettings(label_rule="attention", options=["attention.strength=0.0"])
    mixer = mixer_of("none", "cutmix", settings=settings)
    assert not mixer.needs
    assert mixer(IMAGES, LABELS)
    erasing = mixer_of("cutout", settings=MixSettings(label_rule="perturbed"))  # keeps its label
    assert not erasing.needs
    assert erasing(IMAGES, LABELS)


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
    mixed = schedule.mixer(4, seed=1, settings=settings).mixed(images, labels)
    assert mixed.revised is not None
    sure = 50.0 * torch.eye(4)  # of the own class
    revised = mixed.revised(sure, slice(None))
    assert_close(revised.diagonal(), 0.4 * mixed.lam + 0.6)
    assert_close(revised.sum(1), torch.ones(4))
