"""Where a classifier looks: asked when it is due, remembered in between, read off the steps."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from automix.core.registry import Entry
from automix.core.seeding import generator
from automix.mixing.actions import PLAIN, MixAction
from automix.mixing.batch import MixSettings, mix_batch
from automix.nets.create import create_classifier
from automix.nets.stacking import frozen_running_statistics, logits_of
from automix.saliency import SALIENCY, SaliencyInfo, normalised
from automix.saliency.gradient import gradient
from automix.training.batches import loader
from automix.training.batches.augment import AugmentSettings, canonical_maps, draw_views
from automix.training.maps import computer
from automix.training.settings import SaliencySettings
from tests import tiny
from tests.automix.training.helpers import (
    Watch,
    digits,
    ensemble_of,
    epoch_of,
    member_of,
    order,
    play_epoch,
    population_of,
    spoil,
    watched_mixes,
)
from tests.cases import each

GRADIENT = MixAction("rmix", 0.5, "gradient")
MEASURED, TRAINED, STEPS = 20 + 30, 60, 4
DROPOUT = "dropout_cnn_for_tests"


def looking(**changes):
    return SaliencySettings(**changes)


def asked(record):
    """Images of an epoch that a classifier was asked about, by forward and backward passes."""
    return record.forward_passes - MEASURED - TRAINED, record.backward_passes - TRAINED


def banks(population, member=0):
    return member_of(population, member).banks


def maps_of(population, member=0, name="gradient"):
    return banks(population, member)[name].state_dict()["maps"]


@pytest.fixture
def provider(monkeypatch):
    """Adds a provider for the time of a test."""

    def add(name, value, **facts):
        info = SaliencyInfo(**{"passes": (1, 1)} | facts)
        monkeypatch.setitem(SALIENCY._entries, name, Entry(name, value, info))
        return MixAction("rmix", 0.5, name)

    list(SALIENCY)  # else the first look-up would come after
    return add


# When it is asked -------------------------------------------------------------------------------


@each(
    "settings, images",
    [
        # Batches of 16, 16, 16 and 12; the first epoch knows no map yet.
        (looking(), [60, 60, 60, 60]),
        (looking(refresh=2), [60, 16 + 16, 16 + 16, 16 + 16]),
        (looking(refresh=3), [60, 16, 16, 16 + 12]),  # steps 6, 9, 12 and 15
        (looking(refresh=4), [60, 16, 16, 16]),
        (looking(refresh=5), [60, 16, 16, 12]),  # steps 5, 10 and 15
        (looking(refresh=100), [60, 0, 0, 0]),
        (looking(source="step"), [60, 0, 0, 0]),
        (looking(source="step", refresh=2), [60, 0, 0, 0]),
        (looking(scale=2), [60, 60, 60, 60]),
        (looking(scale=2, refresh=4), [60, 16, 16, 16]),
    ],
)
@each("members", [1, 2])
def test_passes_are_counted_exactly(settings, images, members):
    population = population_of(members=members, saliency=settings)
    for wanted in images:
        records = population.run_epoch([GRADIENT, PLAIN][:members])
        assert asked(records[0]) == (wanted, wanted)
        assert [asked(record) for record in records[1:]] == [(0, 0)] * (members - 1)


@each("settings", [looking(refresh=100), looking(source="step")])
def test_an_image_without_a_map_is_asked_about_when_it_turns_up(settings):
    """The image that rests in the first epoch trains in the second, whose batch is asked about."""
    task = digits(49)
    rests = [order(task, 0, epoch)[-1] for epoch in range(2)]
    assert rests[0] != rests[1], "another seed for the test is needed"
    population = population_of(task=task, saliency=settings)
    counts = []
    for _ in range(2):
        record = population.run_epoch([GRADIENT])[0]
        known = banks(population)["gradient"].state_dict()["known"]
        counts.append((record.backward_passes - 48, int(known.sum())))
    assert counts == [(48, 48), (16, 49)]


def test_maps_are_remembered_for_each_provider_and_through_epochs_without(provider):
    other = provider("other", gradient)
    population = population_of(saliency=looking(refresh=100))
    plays = [GRADIENT, PLAIN, GRADIENT, other]
    counts = [asked(population.run_epoch([play])[0])[0] for play in plays]
    assert counts == [60, 0, 0, 60]
    assert sorted(banks(population)) == ["gradient", "other"]


def test_by_default_nothing_is_remembered():
    population = population_of(members=2)
    assert population.settings.saliency == looking(refresh=1, scale=1, source="pass")
    population.run_epoch([GRADIENT, GRADIENT])
    assert all(not banks(population, member) for member in range(2))
    assert all(not state["saliency"] for state in population.state_dict()["members"])


def test_a_provider_that_cannot_be_read_off_a_step_takes_a_pass_at_every_step(provider):
    """As without ``source: step``, which does not concern it: about each batch as it comes up."""
    weights = []

    def watched(images, targets, classifier):
        weights.append(float(classifier(images[:1]).detach().sum()))
        return normalised(torch.ones(len(images), 8, 8))

    action = provider("watched", watched)
    for source in ("pass", "step"):
        population = population_of(saliency=looking(source=source))
        assert [asked(population.run_epoch([action])[0]) for _ in range(2)] == [(60, 60)] * 2
    assert weights[:8] == weights[8:]


def test_what_a_provider_says_it_costs_is_counted(provider):
    dear = provider("dear", gradient, passes=(3, 2))
    assert asked(population_of().run_epoch([dear])[0]) == (3 * 60, 2 * 60)


def test_an_epoch_that_was_broken_off_leaves_nothing_for_the_next():
    """Ctrl-C in a notebook, and on: the slopes of the steps that were made are dropped."""
    population = population_of(saliency=looking(source="step"))
    population.run_epoch([GRADIENT])
    ensemble = ensemble_of(population)
    with epoch_of(ensemble, [GRADIENT]) as (batches, log):
        ensemble._step(next(batches), log)
    assert not population.run_epoch([GRADIENT])[0].diverged


# What is used -----------------------------------------------------------------------------------


@each("refresh", [2, 3])
@each("piece, together", [(1, 1), (loader.PIECE, 1), (loader.PIECE, 2), (loader.PIECE, 8)])
def test_in_between_the_map_of_an_image_is_the_one_it_had_last(
    monkeypatch, refresh, piece, together
):
    """A slow twin keeps a map for each image.

    Those that are due are asked for ahead of their piece, some batches together.
    """
    monkeypatch.setattr(loader, "PIECE", piece)
    monkeypatch.setattr(computer, "AT_ONCE", 16 * together)
    population = population_of(members=2, saliency=looking(refresh=refresh))
    ensemble = ensemble_of(population)
    last = {member: [None] * 60 for member in range(2)}
    done = {0: 0, 1: 0}
    fresh = 0

    def look(member, images, targets):
        def classify(x):
            return ensemble._stack.ask([member], logits_of, x[:, None])[0][:, 0]

        with frozen_running_statistics(ensemble._net):
            return SALIENCY["gradient"](images, targets, classify)

    def spy(images, targets, action, *, saliency, **options):
        nonlocal fresh
        member = int(action.ratio > 0.45)
        epoch, start = divmod(done[member], 60)
        rows = order(digits(), 0, epoch)[start : start + len(images)]
        first = 4 * epoch + start // 16
        batches = torch.arange(len(images)).split(16)
        due = [
            batch
            for step, batch in enumerate(batches, first)
            if step % refresh == 0 or any(last[member][rows[i]] is None for i in batch)
        ]
        for at in range(0, len(due), together):
            asked_about = torch.cat(due[at : at + together])
            found = look(member, images[asked_about], targets[asked_about])
            for i, one in zip(asked_about, found, strict=True):
                last[member][rows[i]] = one
            fresh += len(found)
        wanted = torch.stack([last[member][row] for row in rows])
        torch.testing.assert_close(saliency, wanted, atol=1e-6, rtol=1e-3)
        done[member] += len(images)
        return mix_batch(images, targets, action, saliency=saliency, **options)

    monkeypatch.setattr("automix.training.batches.loader.mix_batch", spy)
    actions = [MixAction("rmix", ratio, "gradient") for ratio in (0.4, 0.5)]
    records = [population.run_epoch(actions) for _ in range(3)]
    assert done == {0: 180, 1: 180}
    assert fresh == sum(asked(record)[0] for epoch in records for record in epoch) < 360


def test_a_classifier_is_asked_about_the_images_as_they_are_shown_at_a_smaller_size(
    provider, monkeypatch
):
    shown, size, mixes = [], (8, 8), watched_mixes(monkeypatch)

    def peak(images, targets, classifier):
        shown.append(images)
        assert classifier(images).shape == (len(images), 10)
        maps = torch.zeros(len(images), 4, 4)
        maps[:, 1, 2] = 1
        return maps

    population = population_of(members=2, saliency=looking(scale=2))
    action = provider("peak", peak)
    population.run_epoch([action, action])
    # Both members in one call, an image after the other.
    assert [images.shape for images in shown] == [(32, 1, 4, 4)] * 3 + [(24, 1, 4, 4)]
    task = digits()
    plain = task.normalised(task.train_index)[order(task, 0, 0)]
    blocks = plain.unflatten(3, (4, 2)).unflatten(2, (4, 2)).mean((3, 5))
    torch.testing.assert_close(torch.cat(shown)[::2], blocks)
    torch.testing.assert_close(torch.cat(shown)[1::2], blocks)
    for saliency in (call.saliency for call in mixes):
        assert saliency.shape[1:] == size
        torch.testing.assert_close(saliency.sum((1, 2)), torch.ones(len(saliency)))
        inside = saliency[:, 2:4, 4:6]
        assert bool((inside.amin((1, 2)) > saliency[:, 0:1, 0].amax(1)).all())
        assert bool((inside.amax((1, 2)) == saliency.amax((1, 2))).all())


@each("shape, scale, seen", [((1, 7, 5), 2, (4, 3)), ((3, 8, 8), 3, (3, 3))])
def test_sizes_that_the_factor_does_not_divide_are_rounded_up(
    provider, shape, scale, seen, monkeypatch
):
    sizes = set()

    def watched(images, targets, classifier):
        sizes.add(images.shape[2:])
        return normalised(torch.ones(len(images), *images.shape[2:]))

    mixes = watched_mixes(monkeypatch)
    task = tiny.fake_task(shape)
    population = population_of(task=task, batch_size=6, saliency=looking(scale=scale))
    population.run_epoch([provider("watched", watched)])
    assert sizes == {seen}
    for saliency in (call.saliency for call in mixes):
        uniform = 1 / (shape[1] * shape[2])
        torch.testing.assert_close(saliency, torch.full((6, *shape[1:]), uniform))


# Read off the step ------------------------------------------------------------------------------


def hand_made_map(slope):
    """(c, h, w) to (h, w): the root mean square over channels, with the sum 1."""
    root = slope.double().square().mean(0).sqrt()
    return (root / root.sum()).float()


@each("ratios", [[0.5], [0.5, 0.3]])
@each("share_per", ["image", "batch"])
@each("method", ["rmix", "cutmix", "mixup"])
def test_the_map_of_an_image_moves_to_the_slope_by_what_was_shown_of_it(
    monkeypatch, ratios, share_per, method
):
    """Alone and in a stack, batch by batch, by hand."""
    mixes = watched_mixes(monkeypatch)
    members, task = len(ratios), digits()
    population = population_of(
        members=members, saliency=looking(source="step"), mix=MixSettings(share_per=share_per)
    )
    ensemble = ensemble_of(population)
    actions = [MixAction(method, ratio, "gradient") for ratio in ratios]
    before, gradients = [[], []], [[], []]
    net = create_classifier("small_cnn_w8", num_classes=10, shape=(1, 8, 8), seed=0)
    rows = torch.from_numpy(order(task, 0, 0))
    with epoch_of(ensemble, actions) as (batches, log):
        for step, batch in enumerate(batches):
            assert batch.wants_gradients
            here = rows[16 * step : 16 * (step + 1)]
            for member in range(members):
                net.load_state_dict(ensemble.state_dict(member)["classifier"])
                images = batch.images[:, member].clone().requires_grad_()
                loss = F.cross_entropy(net.train()(images), batch.targets[:, member])
                gradients[member] += torch.autograd.grad(loss, images)[0]
                before[member] += maps_of(population, member)[here]
            ensemble._step(batch, log)
    for member, ratio in enumerate(ratios):
        assert len(gradients[member]) == 60
        masks = torch.cat(
            [call.mixed.mask[:, 0].expand(-1, 8, 8) for call in mixes if call.action.ratio == ratio]
        )
        shown = 1 - masks
        assert 0 < float(shown.mean()) < 1
        read = torch.stack([hand_made_map(slope) for slope in gradients[member]])
        wanted = torch.stack(before[member]) * masks + read * shown
        torch.testing.assert_close(maps_of(population, member)[rows], wanted, atol=1e-5, rtol=1e-3)
        assert float((wanted - torch.stack(before[member])).abs().max()) > 1e-3


def test_the_next_epoch_is_guided_by_what_was_read_off_the_last(monkeypatch):
    population = population_of(saliency=looking(source="step"))
    population.run_epoch([GRADIENT])
    kept = maps_of(population)
    mixes = watched_mixes(monkeypatch)
    population.run_epoch([GRADIENT])
    used = torch.cat([call.saliency for call in mixes])
    rows = torch.from_numpy(order(digits(), 0, 1))
    wanted = kept[rows] / kept[rows].sum((1, 2), keepdim=True)
    torch.testing.assert_close(used, wanted, atol=1e-7, rtol=1e-4)


def test_a_step_without_readers_has_no_slopes():
    population = population_of(members=2, saliency=looking(source="step"))
    ensemble = ensemble_of(population)
    with epoch_of(ensemble, [PLAIN, MixAction("cutmix", 0.5, "spectral")]) as (batches, log):
        for batch in batches:
            assert not batch.wants_gradients
            ensemble._step(batch, log)
    assert not banks(population)


def test_reading_a_step_does_not_change_the_step():
    """The slopes are a by-product: with the same maps, weights move as without reading."""
    once, read = (
        population_of(saliency=looking(refresh=100, source=source)) for source in ("pass", "step")
    )
    records = [population.run_epoch([GRADIENT])[0] for population in (once, read)]
    once_told, read_told = (dataclasses.asdict(record) for record in records)
    assert once_told.pop("val_calibrated_loss") is None is read_told.pop("val_calibrated_loss")
    assert once_told == pytest.approx(read_told, 1e-4)
    assert not torch.allclose(maps_of(once), maps_of(read), atol=1e-3)


def test_a_member_that_diverges_reads_uniform_maps_and_leaves_the_others_alone():
    settings = {"saliency": looking(source="step"), "members": 2}
    sound, broken = population_of(**settings), population_of(**settings)
    spoil(broken)
    for population in (sound, broken):
        population.run_epoch([GRADIENT, GRADIENT])
    assert torch.isfinite(maps_of(broken)).all()
    torch.testing.assert_close(maps_of(broken), torch.full((60, 8, 8), 1 / 64))
    assert torch.equal(maps_of(broken, 1), maps_of(sound, 1))


# Moved images -----------------------------------------------------------------------------------


def test_maps_lie_on_the_untouched_images_whatever_way_these_are_shown(provider, monkeypatch):
    """The map of a mirrored image is kept mirrored back, and shown mirrored again."""

    def left(images, targets, classifier):
        maps = torch.zeros(len(images), 8, 8)
        maps[:, 3, 1] = 1
        return maps

    action = provider("left", left)
    population = population_of(
        saliency=looking(refresh=100), augment=AugmentSettings(flip=1.0), epochs=2
    )
    population.run_epoch([action])
    wanted = torch.zeros(60, 8, 8)
    wanted[:, 3, 6] = 1
    assert torch.equal(maps_of(population, name="left"), wanted)
    mixes = watched_mixes(monkeypatch)
    population.run_epoch([action])
    for saliency in (call.saliency for call in mixes):
        assert torch.equal(saliency, wanted[: len(saliency)].flip(2))


@each("source", ["pass", "step"])
def test_what_a_crop_does_not_show_keeps_its_map(source, monkeypatch):
    mixes = watched_mixes(monkeypatch)
    augment = AugmentSettings(crop_padding=2, flip=0.5)
    population = population_of(saliency=looking(refresh=100, source=source), augment=augment)
    population.run_epoch([GRADIENT])
    rows = torch.from_numpy(order(digits(), 0, 0))
    views = draw_views(60, augment, generator(0, "augment", 0))
    seen = canonical_maps(torch.ones(60, 8, 8), views)[1]
    assert 0.6 < float(seen.float().mean()) < 0.95
    maps = maps_of(population)[rows]
    assert bool((maps[~seen] == 1 / 64).all())
    assert float((maps[seen] == 1 / 64).float().mean()) < 0.05
    # Everything that was shown, and nothing else, came from what the classifier said.
    for saliency in (call.saliency for call in mixes):
        torch.testing.assert_close(saliency.sum((1, 2)), torch.ones(len(saliency)))


# What a look leaves alone -----------------------------------------------------------------------


@each("members", [1, 3])
@each("askers", [1, 3])
def test_a_look_computes_no_gradients_of_weights(members, askers):
    population = population_of(members=members)
    ensemble = ensemble_of(population)
    actions = [GRADIENT] * askers + [PLAIN] * members
    with epoch_of(ensemble, actions[:members]) as (batches, log), Watch() as watch:
        batch = next(batches)
        looks = watch.of("convolution_backward")
        norms = watch.of("native_batch_norm_backward")
        watch.calls.clear()
        ensemble._step(batch, log)
        steps = watch.of("convolution_backward")
        for _ in batches:
            pass
    assert len(looks) == len(steps) == 3, "one call a convolution, however many ask"
    assert [args[-1][:2] for args, _ in looks] == [[True, False]] * 3
    assert all(args[-1] == [True, False, False] for args, _ in norms)
    assert [args[-1][1] for args, _ in steps] == [True] * 3
    assert [args[-1][0] for args, _ in steps] == [True, True, False], "no slope at the images"


def test_reading_a_step_costs_the_slope_at_the_images_and_nothing_else():
    population = population_of(members=2, saliency=looking(source="step"))
    ensemble = ensemble_of(population)
    population.run_epoch([GRADIENT, GRADIENT])
    with Watch() as watch:
        play_epoch(ensemble, [GRADIENT, GRADIENT])
    masks = [args[-1][:2] for args, _ in watch.of("convolution_backward")]
    assert masks == [[True, True]] * 3 * STEPS
    assert len(watch.of("convolution")) == 3 * STEPS


@each("model", ["small_cnn_w8", DROPOUT])
@each("settings", [looking(), looking(refresh=2), looking(scale=2)])
def test_a_look_leaves_no_trace_in_the_training(settings, model, provider, monkeypatch):
    """Guided by maps that are thrown away, it is the training that nobody looks at."""
    population, plain = (population_of(members=2, model=model, saliency=settings) for _ in "ab")

    def ignored(images, targets, action, **options):
        return mix_batch(images, targets, PLAIN, **options)

    monkeypatch.setattr("automix.training.batches.loader.mix_batch", ignored)
    for _ in range(2):
        looked, wanted = population.run_epoch([GRADIENT] * 2), plain.run_epoch([PLAIN] * 2)
        for one, other in zip(looked, wanted, strict=True):
            passes = {"forward_passes": 0, "backward_passes": 0}
            one, other = (dataclasses.replace(record, **passes) for record in (one, other))
            assert one == other
