"""Training epoch by epoch: exact counts, exact repeats, members that do not touch each other."""

from __future__ import annotations

import copy
import dataclasses
import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from automix.core.errors import ConfigError
from automix.core.seeding import derived_seed, generator
from automix.mixing.actions import PLAIN, MixAction
from automix.mixing.batch import MixSettings, mix_batch
from automix.nets.create import create_classifier
from automix.nets.stacking import frozen_running_statistics
from automix.saliency import SALIENCY
from automix.training.maps.computer import StackedClassifier
from automix.training.metrics import LOSS_CAP
from automix.training.population import Population, Trainer
from automix.training.settings import ELEMENTWISE
from tests import golden, tiny
from tests.automix.saliency.planted import models_for
from tests.automix.training.helpers import ensemble_of, spoil
from tests.cases import each
from tests.contract import FORMS, global_states
from tests.same import assert_same

GRADIENT = MixAction("rmix", 0.5, "gradient")

ACTIONS = [
    MixAction(form.method, 0.0 if form.method == "none" else 0.4, saliency)
    for form in FORMS
    for saliency in (("spectral", "gradient") if form.guided else ("off",))
]

every_action = pytest.mark.parametrize("action", ACTIONS, ids=str)

EVERY_KIND = [PLAIN, GRADIENT, MixAction("cutmix", 0.5), MixAction("mixup", 0.3, "spectral")]
"""Of action, as a trainer sees them: nothing, maps of the classifier, no maps, maps of images."""


def trainer_of(task, **changes):
    return Trainer(task, tiny.trainer_settings(**changes))


def population_of(task, members, **changes):
    return Population([task] * members, tiny.trainer_settings(**changes))


def start(trainer, seed=0):
    """Reset a trainer, or all members of a population, from one seed."""
    alone = isinstance(trainer, Trainer)
    return trainer.reset(seed) if alone else trainer.reset([seed] * trainer.members)


def play(trainer, plays, seed=0):
    """Reset and play; return all records."""
    return [start(trainer, seed), *(trainer.run_epoch(play) for play in plays)]


def numbers(record):
    return np.array([float(value or 0) for value in dataclasses.astuple(record)])


def assert_close_records(got, wanted, tolerance=2e-3):
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(numbers(a), numbers(b), rtol=tolerance, atol=tolerance)


# Repeats ----------------------------------------------------------------------------------------


@every_action
def test_a_training_is_counted_repeats_and_goes_on_bit_by_bit(digits_task, action):
    trainer = trainer_of(digits_task)
    start, first = play(trainer, [action])
    measured = 20 + 30  # probe and validation
    assert (start.forward_passes, start.backward_passes) == (measured, 0)
    saliency = 60 if action.saliency == "gradient" else 0
    assert first.forward_passes == 60 + measured + saliency
    assert first.backward_passes == 60 + saliency
    snapshot = trainer.state_dict()
    kept = copy.deepcopy(snapshot)
    second = trainer.run_epoch(action)
    assert batches_recorded(trainer) == {2 * 4}, "saliency passes and measuring are not recorded"
    other = trainer_of(digits_task)
    play(other, [PLAIN], seed=5)
    other.load_state_dict(snapshot)
    assert other.run_epoch(action) == second, "from a snapshot"
    assert_same(snapshot, kept)
    assert play(other, [action]) == [start, first], "in another trainer"
    assert play(trainer, [action], seed=1)[1] != first, "another seed"


def batches_recorded(trainer):
    """What the norms of a net say, each about itself."""
    buffers = ensemble_of(trainer.population)._net.named_buffers()
    return {int(value) for name, value in buffers if name.endswith("num_batches_tracked")}


@each("model", ["small_cnn_w8", "dropout_cnn_for_tests"])
def test_the_global_generators_are_neither_read_nor_moved(digits_task, model):
    trainer = trainer_of(digits_task, model=model)
    before = global_states()
    first = play(trainer, [GRADIENT, MixAction("cutmix", 0.5)])
    assert global_states() == before
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        assert play(trainer, [GRADIENT, MixAction("cutmix", 0.5)]) == first


def test_golden_numbers():
    """If they moved on purpose: ``python -m tests.golden``, and say why in the commit."""
    wanted = json.loads(golden.FILE.read_text(encoding="utf-8"))
    got = golden.measure()
    assert got.keys() == wanted.keys()
    for name, epochs in wanted.items():
        for epoch, record in enumerate(epochs):
            for field, value in record.items():
                close = pytest.approx(value, rel=1e-4, abs=1e-4)
                assert got[name][epoch][field] == close, (name, epoch, field)


# Populations ------------------------------------------------------------------------------------


@each("opt", sorted(ELEMENTWISE))
def test_members_do_not_meet_in_the_optimizer(digits_task, opt):
    own, other = MixAction("cutmix", 0.5), MixAction("mixup", 0.5)
    settings = {"opt": opt, "lr": 0.02, "batch_size": 30, "warmup_epochs": 0}
    wanted, got = (
        play(population_of(digits_task, 2, **settings), [[own, one]])[1][0] for one in (own, other)
    )
    assert got == wanted
    alone = play(trainer_of(digits_task, **settings), [own])
    assert_close_records([got], alone[1:])


@each("opt", ["lamb", "lars", "adafactor", "muon", "sgdp"])
def test_an_optimizer_in_which_members_would_meet_trains_one_only(digits_task, opt):
    with pytest.raises(ConfigError, match=f"trainer.opt is '{opt}', with which 2 training runs"):
        population_of(digits_task, 2, opt=opt)
    record = play(trainer_of(digits_task, opt=opt, lr=0.01), [PLAIN])[1]
    assert not record.diverged


def test_each_member_needs_an_action(digits_task):
    population = population_of(digits_task, 3)
    start(population)
    for actions in ([PLAIN], [PLAIN] * 4, []):
        with pytest.raises(ConfigError, match=rf"{len(actions)} actions for 3"):
            population.run_epoch(actions)


# Divergence -------------------------------------------------------------------------------------


@each("lr", [1e9, 1e35])
@each("action", [PLAIN, GRADIENT])
def test_a_training_that_diverges_is_an_outcome_not_an_error(digits_task, lr, action):
    records = play(trainer_of(digits_task, lr=lr, warmup_epochs=0), [action] * 4)
    for record in records:
        assert np.isfinite(numbers(record)).all()
        assert max(record.train_loss, record.val_loss, record.mixed_loss) <= LOSS_CAP
        assert 0 <= record.val_accuracy <= 1
    assert records[-1].val_loss > 5
    assert [record.diverged for record in records] == sorted(r.diverged for r in records)
    if lr == 1e35:
        last = records[-1]
        assert last.diverged
        assert last.train_loss == last.val_loss == last.mixed_loss == LOSS_CAP
        assert last.val_accuracy == last.train_accuracy == last.val_confidence == 0.0


@each("model", ["small_cnn_w8", "dropout_cnn_for_tests"])
def test_a_member_that_diverges_leaves_the_others_untouched(digits_task, model):
    actions = [GRADIENT, GRADIENT, MixAction("cutmix", 0.5)]
    sound, broken = (population_of(digits_task, 3, model=model) for _ in range(2))
    wanted = play(sound, [actions, actions])
    start(broken)
    spoil(broken)
    for epoch in (1, 2):
        records = broken.run_epoch(actions)
        assert records[0].diverged
        assert np.isfinite(numbers(records[0])).all()
        assert records[1:] == wanted[epoch][1:]


def test_a_training_that_diverged_once_stays_so_in_its_snapshots(digits_task):
    """Also if its weights are finite again, as after an overflow of the gradient norm alone."""
    trainer = trainer_of(digits_task)
    trainer.reset(0)
    snapshot = trainer.state_dict()
    snapshot["members"][0]["diverged"] = True
    trainer.load_state_dict(snapshot)
    assert trainer.run_epoch(PLAIN).diverged
    assert trainer.state_dict()["members"][0]["diverged"]
    assert not trainer.reset(0).diverged


# Counts and metrics -----------------------------------------------------------------------------


def test_the_first_record_is_of_the_untrained_classifier(digits_task):
    task, record = digits_task, trainer_of(digits_task).reset(3)
    shape, seed = task.images.shape, derived_seed(3, "weights")
    net = create_classifier("small_cnn_w8", num_classes=10, shape=shape, seed=seed).eval()
    with torch.no_grad():
        val, probe = (
            net(task.normalised(index)) for index in (task.val_index, task.train_index[:20])
        )
    true = torch.from_numpy(task.images.labels[task.val_index])
    noisy = torch.from_numpy(task.train_labels[:20])
    assert record.epoch == 0
    assert record.val_loss == pytest.approx(float(F.cross_entropy(val, true)), rel=1e-5)
    assert record.val_accuracy == pytest.approx(float((val.argmax(1) == true).float().mean()))
    assert record.val_confidence == pytest.approx(float(val.softmax(1).amax(1).mean()), rel=1e-5)
    assert record.train_loss == pytest.approx(float(F.cross_entropy(probe, noisy)), rel=1e-5)
    assert record.train_accuracy == pytest.approx(float((probe.argmax(1) == noisy).float().mean()))
    assert (record.mixed_loss, record.partner_share, record.gradient_norm) == (0, 0, 0)
    assert not record.diverged


def test_an_epoch_is_plain_training_when_nothing_is_mixed(digits_task):
    """A loop of a few lines, with the same order of images, gives the same numbers."""
    task = digits_task
    trainer = trainer_of(task, sched="step", warmup_epochs=0, lr=0.05, label_smoothing=0.1)
    record = play(trainer, [PLAIN])[1]
    net = create_classifier(
        "small_cnn_w8", num_classes=10, shape=(1, 8, 8), seed=derived_seed(0, "weights")
    )
    weights = [p for p in net.parameters() if p.dim() > 1]
    rest = [p for p in net.parameters() if p.dim() == 1]  # timm spares biases and norms the decay
    optimizer = torch.optim.SGD(
        [{"params": weights, "weight_decay": 1e-4}, {"params": rest}],
        lr=0.05,
        momentum=0.9,
        nesterov=True,
    )
    images, labels = task.normalised(task.train_index), torch.from_numpy(task.train_labels)
    order = torch.from_numpy(generator(0, "order", 0).permutation(60))
    total = 0.0
    for index in order.split(16):
        loss = F.cross_entropy(net(images[index]), labels[index], label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(index)
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in net.parameters()))
    val = net.eval()(task.normalised(task.val_index)).detach()
    assert record.mixed_loss == pytest.approx(total / 60, rel=1e-4)
    assert record.gradient_norm == pytest.approx(norm, rel=1e-3)
    wanted = float(F.cross_entropy(val, task.labels(task.val_index)))
    assert record.val_loss == pytest.approx(wanted, rel=1e-3)


def test_the_realised_share_is_told(digits_task):
    def share(text):
        return play(trainer_of(digits_task), [MixAction.parse(text)])[1].partner_share

    assert share("none") == 0
    assert share("mixup@0.5") == pytest.approx(0.5, abs=0.1)
    assert share("mixup@0.1") == pytest.approx(0.1, abs=0.06)
    assert share("cutmix@0.5") == pytest.approx(0.23, abs=0.08)


def test_every_epoch_draws_anew(digits_task):
    records = play(trainer_of(digits_task), [MixAction("cutmix", 0.5)] * 3)[1:]
    assert len({record.partner_share for record in records}) == 3


@each("provider", [entry.name for entry in SALIENCY.entries() if entry.info.asks is None])
def test_the_mix_is_guided_by_the_maps_of_its_own_images(digits_task, provider, monkeypatch):
    """The maps of an image, of the classifier as it is when the batch is mixed."""
    settings = tiny.trainer_settings(model=models_for(provider)[0])
    population = Population([digits_task] * 2, settings, stack_limit=2)
    start(population)
    calls = []

    def spy(images, targets, action, *, saliency, batch_size, **options):
        member = int(action.ratio > 0.45)

        classifier = StackedClassifier(ensemble_of(population)._stack, [member])
        assert batch_size == tiny.BATCH_SIZE
        for part in range(0, len(images), batch_size):
            here = slice(part, part + batch_size)
            with frozen_running_statistics(ensemble_of(population)._net):
                wanted = SALIENCY[provider](images[here], targets[here], classifier)
            torch.testing.assert_close(saliency[here], wanted, atol=1e-5, rtol=1e-3)
        calls.append(member)
        return mix_batch(
            images, targets, action, saliency=saliency, batch_size=batch_size, **options
        )

    monkeypatch.setattr("automix.training.batches.loader.mix_batch", spy)
    actions = [MixAction("cutmix", ratio, provider) for ratio in (0.4, 0.5)]
    population.run_epoch(actions)
    population.run_epoch(actions)
    assert set(calls) == {0, 1}


def test_mixing_settings_reach_the_batches(digits_task):
    never = MixSettings(mix_probability=0.0)
    wanted = play(trainer_of(digits_task), [PLAIN])
    got = play(trainer_of(digits_task, mix=never), [MixAction("cutmix", 0.5)])
    assert got == wanted
    area = play(trainer_of(digits_task), [MixAction("cutmix", 0.5)])[1]
    requested = MixSettings(label_rule="requested")
    record = play(trainer_of(digits_task, mix=requested), [MixAction("cutmix", 0.5)])[1]
    assert record.mixed_loss != area.mixed_loss
    assert record.partner_share == area.partner_share, "what is shown, not what the label says"
    named = play(trainer_of(digits_task), [MixAction("cutmix", 0.5, label_rule="requested")])[1]
    assert named == record
    options = MixSettings(options=["rmix.grids=[1]"])
    whole = play(trainer_of(digits_task, mix=options), [MixAction("rmix", 0.5)])[1]
    assert whole != play(trainer_of(digits_task), [MixAction("rmix", 0.5)])[1]


def test_a_member_may_mix_some_batches_only_while_its_neighbours_mix_all(digits_task):
    half = MixAction("mixup", 0.5, mix_probability=0.5)
    actions = [MixAction("mixup", 0.5), half, PLAIN]
    together = Population([digits_task] * 3, tiny.trainer_settings(batch_size=4))
    together.reset([0] * 3)
    shares = [record.partner_share for record in together.run_epoch(actions)]
    assert shares[0] == pytest.approx(0.5, abs=0.15)
    assert 0.1 < shares[1] < shares[0] - 0.1
    assert shares[2] == 0
    alone = play(trainer_of(digits_task, batch_size=4), [half])[1]
    assert alone.partner_share == pytest.approx(shares[1], rel=1e-6)
    setting = MixSettings(mix_probability=0.5)
    same = play(trainer_of(digits_task, batch_size=4, mix=setting), [MixAction("mixup", 0.5)])[1]
    assert same == alone


def test_the_learning_rate_warms_up_and_anneals_to_its_least(digits_task):
    rates = [r.lr for r in play(trainer_of(digits_task, lr=0.2, min_lr=1e-4), [PLAIN] * 4)]
    assert rates[0] < 1e-4
    assert max(rates) == rates[1] > 0.15
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert rates[-1] == pytest.approx(1e-4, rel=1e-3)


def test_a_training_learns(digits_task):
    records = play(trainer_of(digits_task, epochs=12, batch_size=10), [PLAIN] * 12)
    assert records[-1].train_loss < 0.6 * records[0].train_loss
    assert records[-1].val_accuracy > records[0].val_accuracy + 0.2


def test_the_probe_is_at_most_the_training_set(digits_task):
    record = trainer_of(digits_task, probe_size=1000).reset(0)
    assert record.forward_passes == 60 + 30


def test_training_images_and_labels_are_never_written_to(digits_task):
    before = [digits_task.images.pixels.images.clone(), digits_task.train_labels.copy()]
    population = population_of(digits_task, 2)
    train = population._data[0].train.resident.clone()
    play(population, [[GRADIENT, MixAction("cutmix", 0.5)], [MixAction("mixup", 0.5), PLAIN]])
    assert torch.equal(digits_task.images.pixels.images, before[0])
    assert (digits_task.train_labels == before[1]).all()
    assert torch.equal(population._data[0].train.resident, train)


# Edges ------------------------------------------------------------------------------------------


@each("model", ["test_resnet", "test_vit", "test_efficientnet", "resnet10t"])
def test_any_timm_model_trains(model):
    task = tiny.fake_task((3, 32, 32))
    for action in (MixAction("cutmix", 0.5), GRADIENT):
        start, record = play(trainer_of(task, model=model, batch_size=6, lr=0.01), [action])
        assert np.isfinite(numbers(record)).all()
        assert not record.diverged
        assert record.val_loss != start.val_loss


@each("model", ["small_cnn_w8", "test_resnet"])
@each("batch_size", [12, 11, 4, 100])
def test_a_last_batch_of_any_size_trains(model, batch_size):
    """Batch norm has no statistics of one image whose map is one pixel: none comes alone."""
    task = tiny.fake_task((1, 4, 4), train=13)
    settings = {"model": model, "batch_size": batch_size}
    for action in (MixAction("cutmix", 0.5), GRADIENT):
        record = play(trainer_of(task, **settings), [action])[1]
        assert not record.diverged
        trained = 13 - (13 % batch_size == 1)
        assert record.backward_passes == trained * (2 if action == GRADIENT else 1)


@each(
    "changes, names",
    [
        ({"model": "small_cnn_w9"}, "'small_cnn_w9' is not a timm model"),
        ({"opt": "sgdd"}, "trainer.opt is 'sgdd'"),
        ({"sched": "cosin"}, "trainer.sched is 'cosin'"),
        ({"sched": "none"}, "trainer.sched is 'none'"),
        ({"sched": "plateau"}, "trainer.sched is 'plateau'"),
    ],
)
def test_names_that_timm_does_not_know_are_refused_at_the_start(digits_task, changes, names):
    with pytest.raises(ConfigError) as error:
        trainer_of(digits_task, **changes).reset(0)
    assert names in error.value.message
