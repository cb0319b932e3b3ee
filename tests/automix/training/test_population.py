"""Many trainings side by side: the numbers of each alone, whoever sits where."""

from __future__ import annotations

import copy
from functools import lru_cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from automix.core.errors import ConfigError
from automix.core.seeding import derived_seed
from automix.core.snapshots import from_bytes, to_bytes
from automix.mixing.actions import PLAIN, MixAction
from automix.nets.create import create_classifier
from automix.nets.stacking import GroupedStack, LoopedStack
from automix.training.population import Population, Trainer
from automix.training.settings import ELEMENTWISE, SaliencySettings
from tests import tiny
from tests.automix.training.helpers import assert_close, digits, ensembles, member_of, play_epoch
from tests.cases import each
from tests.same import assert_same

GRADIENT = MixAction("rmix", 0.5, "gradient")
SPECTRAL = MixAction("cutmix", 0.4, "spectral")
CUTMIX = MixAction("cutmix", 0.5)
MIXUP = MixAction("mixup", 0.3)

SAME, OTHER, SHORT, LONG = digits(32), digits(32, seed=4), digits(16), digits(33)
"""Two tasks of one form, one of fewer images; and one whose epoch is as long as the first's,
because the image too many would be alone in its batch."""

WHO = [(SAME, 0), (OTHER, 1), (SHORT, 0), (SAME, 0), (LONG, 2), (OTHER, 1), (SAME, 5)]
PLAYS = [
    [GRADIENT, PLAIN, SPECTRAL, MIXUP, GRADIENT, GRADIENT, CUTMIX],
    [CUTMIX, GRADIENT, GRADIENT, GRADIENT, PLAIN, SPECTRAL, GRADIENT],
]
DROPOUT = "dropout_cnn_for_tests"
NESTEROV, ADAMW = {"opt": "nesterov", "lr": 0.05}, {"opt": "adamw", "lr": 0.005}
OPTS = {"nesterov": NESTEROV, "adamw": ADAMW}

every_limit = each("limit", [0, 1, 2])
every_model = each("model", ["small_cnn_w8", DROPOUT])
every_opt = each("opt", OPTS)
every_kind = each(
    "model, opt", [("small_cnn_w8", "nesterov"), ("small_cnn_w8", "adamw"), (DROPOUT, "adamw")]
)


def population_of(tasks, limit=0, **changes):
    return Population(tasks, tiny.trainer_settings(**changes), stack_limit=limit)


def everyone(limit=0, **changes):
    """The population of ``WHO``, reset."""
    population = population_of([task for task, _ in WHO], limit, **changes)
    return population, population.reset([seed for _, seed in WHO])


@lru_cache
def alone(member, model, opt):
    """The records and last state of one of ``WHO`` in a trainer of its own."""
    task, seed = WHO[member]
    trainer = Trainer(task, tiny.trainer_settings(model=model, **OPTS[opt]))
    records = [trainer.reset(seed), *(trainer.run_epoch(plays[member]) for plays in PLAYS)]
    return records, trainer.state_dict()["members"][0]


def batch_norm_counts(state):
    return {int(v) for k, v in state["classifier"].items() if k.endswith("num_batches_tracked")}


def stacks_of(population):
    """The members of each stack, in the order of their places."""
    return [members for _, members in population._ensembles()]


# Each as if it were alone -----------------------------------------------------------------------


@every_limit
@every_kind
def test_every_member_has_the_numbers_of_a_trainer_of_its_own(limit, opt, model):
    population, first = everyone(limit, model=model, **OPTS[opt])
    together = [first, *(population.run_epoch(plays) for plays in PLAYS)]
    states = population.state_dict()["members"]
    for member in range(len(WHO)):
        records, state = alone(member, model, opt)
        for got, wanted in zip(together, records, strict=True):
            assert_close(got[member], wanted)
        assert batch_norm_counts(states[member]) == batch_norm_counts(state) != set()
        for name, value in state["classifier"].items():
            got = states[member]["classifier"][name]
            torch.testing.assert_close(got, value, atol=5e-3, rtol=5e-3, msg=name)


def test_members_that_differ_in_any_way_train_differently():
    """Else the numbers above would be equal for a dull reason."""
    population, _ = everyone()
    records = population.run_epoch([CUTMIX] * len(WHO))
    losses = [record.mixed_loss for record in records]
    assert losses[0] == losses[3]
    assert losses[1] == losses[5]
    apart = [losses[member] for member in (0, 1, 2, 4, 6)]
    assert min(abs(a - b) for i, a in enumerate(apart) for b in apart[:i]) > 1e-3


def test_images_and_logits_come_in_the_order_of_the_members_asked_for():
    population, _ = everyone(2)
    images = SAME.normalised(SAME.val_index)
    everything = population.logits(images)
    assert everything.shape == (30, len(WHO), 10)
    for member, (task, seed) in enumerate(WHO):
        net = create_classifier(
            "small_cnn_w8", num_classes=10, shape=(1, 8, 8), seed=derived_seed(seed, "weights")
        )
        with torch.no_grad():
            wanted = net.eval()(images)
        torch.testing.assert_close(everything[:, member], wanted, atol=1e-5, rtol=1e-4)
        assert population.tasks[member] is task
    chosen = [5, 2, 5, 0]
    assert torch.equal(population.logits(images, chosen), everything[:, chosen])
    split = SAME.split(SAME.val_index, torch.device("cpu"))
    assert torch.equal(population.logits(split), everything)


# Who sits with whom -----------------------------------------------------------------------------


def test_those_of_one_form_sit_together_and_those_who_share_batches_side_by_side():
    population, _ = everyone()
    # By form; by task and seed within it. The long one trains on as many images, all but one.
    assert stacks_of(population) == [[0, 3, 1, 5, 4, 6], [2]]
    batches = [
        (shared.data.task, shared.seed, shared.slots)
        for shared in ensembles(population)[0]._loader.shared_batches
    ]
    assert batches == [(SAME, 0, [0, 1]), (OTHER, 1, [2, 3]), (LONG, 2, [4]), (SAME, 5, [5])]


def test_a_limit_cuts_the_stacks():
    assert stacks_of(everyone(2)[0]) == [[0, 3], [1, 5], [2], [4, 6]]
    assert stacks_of(everyone(3)[0]) == [[0, 3, 1], [2], [5, 4, 6]]
    assert stacks_of(everyone(4)[0]) == [[0, 3, 1], [2], [5, 4, 6]], "not four and two"
    assert stacks_of(everyone(1)[0]) == [[member] for member in range(len(WHO))]


def test_what_cannot_be_stacked_sits_with_those_who_draw_the_same_dropout():
    population, _ = everyone(model=DROPOUT)
    assert stacks_of(population) == [[0, 3], [1, 5], [2], [4], [6]]
    assert all(isinstance(ensemble._stack, LoopedStack) for ensemble in ensembles(population))
    assert isinstance(ensembles(everyone()[0])[0]._stack, GroupedStack)


def test_shapes_and_classes_make_a_form():
    tasks = [
        tiny.fake_task((1, 8, 8)),
        tiny.fake_task((1, 8, 8), classes=4),
        tiny.fake_task((3, 8, 8)),
        tiny.fake_task((1, 8, 9)),
        tiny.fake_task((1, 8, 8), val=7),
        tiny.fake_task((1, 8, 8)),
    ]
    population = population_of(tasks, batch_size=6)
    population.reset([0] * 6)
    assert stacks_of(population) == [[0, 5], [1], [2], [3], [4]]
    assert all(not record.diverged for record in population.run_epoch([GRADIENT] * 6))


def test_equal_members_see_equal_batches_and_others_do_not():
    population, _ = everyone()
    ensemble = ensembles(population)[0]
    for images, targets in play_epoch(ensemble, [CUTMIX, CUTMIX, CUTMIX, GRADIENT, CUTMIX, CUTMIX]):
        assert torch.equal(images[:, 0], images[:, 1])
        assert torch.equal(targets[:, 0], targets[:, 1])
        for other in (2, 4, 5):
            assert not torch.equal(images[:, 0], images[:, other])
        assert not torch.equal(images[:, 2], images[:, 3])


# Resets of some ---------------------------------------------------------------------------------


def fresh(task, seed, plays, **changes):
    """Records of a trainer of its own."""
    trainer = Trainer(task, tiny.trainer_settings(**changes))
    return [trainer.reset(seed), *(trainer.run_epoch(play) for play in plays)]


@every_limit
@every_model
def test_those_who_are_not_reset_go_on_as_if_nothing_had_happened(limit, model):
    started, _ = everyone(limit, model=model, **NESTEROV)
    started.run_epoch(PLAYS[0])
    records = started.reset([7, 8], members=[3, 2])
    for record, wanted in zip(
        records, (fresh(SAME, 7, [], model=model), fresh(SHORT, 8, [], model=model)), strict=True
    ):
        assert_close(record, wanted[0])
    after = started.run_epoch(PLAYS[1])
    for member in (0, 1, 4, 5, 6):
        assert_close(after[member], alone(member, model, "nesterov")[0][2])
    for member, seed in ((3, 7), (2, 8)):
        task = WHO[member][0]
        wanted = fresh(task, seed, [PLAYS[1][member]], model=model, **NESTEROV)
        assert_close(after[member], wanted[1])
    assert [record.epoch for record in after] == [2, 2, 1, 1, 2, 2, 2]


def test_those_in_other_stacks_are_not_even_touched():
    population, _ = everyone(2)
    population.run_epoch(PLAYS[0])
    before = list(population._places)
    population.reset([9], members=[1])
    kept = [m for m in range(len(WHO)) if population._places[m] == before[m]]
    assert kept == [0, 2, 3, 4, 6], "member 5 sat beside 1"


def test_a_reset_member_may_get_another_task():
    population, _ = everyone(**NESTEROV)
    population.run_epoch(PLAYS[0])
    (record,) = population.reset([6], members=[0], tasks=[SHORT])
    assert_close(record, fresh(SHORT, 6, [])[0])
    assert [population.tasks[m] for m in (0, 3)] == [SHORT, SAME]
    assert len({id(data) for data in everyone()[0]._data}) == 4, "the device holds a task once"
    assert population._data[0] is population._data[2], "what is on the device is used again"
    after = population.run_epoch([GRADIENT, *PLAYS[1][1:]])
    assert_close(after[0], fresh(SHORT, 6, [GRADIENT], **NESTEROV)[1])
    assert_close(after[3], alone(3, "small_cnn_w8", "nesterov")[0][2])
    records = population.reset([0, 0], members=[3, 0], tasks=[OTHER, SAME])
    assert_close(records[0], fresh(OTHER, 0, [])[0])
    assert_close(records[1], fresh(SAME, 0, [])[0])


def test_a_reset_of_all_forgets_everything():
    population, _ = everyone(**NESTEROV)
    population.run_epoch(PLAYS[0])
    records = population.reset([seed for _, seed in WHO])
    assert records == everyone(**NESTEROV)[1]
    assert_same(
        [population.run_epoch(PLAYS[0]), population.state_dict()],
        [(again := everyone(**NESTEROV)[0]).run_epoch(PLAYS[0]), again.state_dict()],
    )


def test_two_who_are_reset_alike_meet_in_one_stack():
    population = population_of([SAME] * 4)
    population.reset([0, 1, 2, 3])
    population.run_epoch([PLAIN] * 4)
    population.reset([5, 5], members=[3, 1])
    assert sorted(map(sorted, stacks_of(population))) == [[0, 2], [1, 3]]
    population.run_epoch([PLAIN] * 4)
    population.reset([5, 5], members=[0, 2])
    assert sorted(map(sorted, stacks_of(population))) == [[0, 2], [1, 3]], "another epoch"


@each(
    "arguments, message",
    [
        (([1],), "1 seeds for 3 members"),
        (([1, 2, 3, 4],), "4 seeds for 3 members"),
        (([1, 2], [0]), "2 seeds for 1 members"),
        (([1, 2], [0, 1], [SAME]), "1 tasks for 2 members"),
        (([1, 2, 3], None, [SAME, SAME]), "2 tasks for 3 members"),
        *((([7] * len(bad), bad), "members") for bad in ([-1], [3], [0, 0], [1, -2])),
    ],
)
def test_counts_that_do_not_fit_and_members_that_are_not_there_or_twice_are_refused(
    arguments, message
):
    population = population_of([SAME, SAME, SHORT])
    population.reset([0, 1, 2])
    before = population.state_dict()
    with pytest.raises(ConfigError, match=message):
        population.reset(*arguments)
    assert_same(population.state_dict(), before)


def test_what_needs_classifiers_says_so_before_the_first_reset():
    population = population_of([SAME])
    for ask in (population.state_dict, lambda: population.logits(torch.zeros(1, 1, 8, 8))):
        with pytest.raises(ConfigError, match="before reset"):
            ask()


def test_the_first_reset_is_of_all():
    population = population_of([SAME, SAME])
    with pytest.raises(ConfigError, match="some members are reset before all") as error:
        population.reset([1], members=[0])
    assert error.value.hint == "reset() all first"
    with pytest.raises(ConfigError, match="before reset"):
        population.run_epoch([PLAIN, PLAIN])
    assert len(population.reset([1, 2], members=[1, 0])) == 2


def test_one_budget_that_is_spent_stops_all_and_trains_nobody():
    population = population_of([SAME, SHORT], epochs=1)
    population.reset([0, 0])
    population.run_epoch([PLAIN, PLAIN])
    population.reset([0], members=[1])
    before = population.state_dict()
    with pytest.raises(ConfigError, match="epoch 2 is beyond the budget of 1 epochs") as error:
        population.run_epoch([PLAIN, PLAIN])
    assert error.value.hint
    assert_same(population.state_dict(), before)
    population.load_state_dict(before)
    with pytest.raises(ConfigError, match="epoch 2 is beyond the budget of 1 epochs"):
        population.run_epoch([PLAIN, PLAIN])
    population.reset([1], members=[0])
    assert [record.epoch for record in population.run_epoch([PLAIN, PLAIN])] == [1, 1]


# Any history ------------------------------------------------------------------------------------

SMALL = [tiny.fake_task((1, 6, 6)), tiny.fake_task((1, 6, 6), train=9)]
BUDGET = 3
CHOICES = (PLAIN, CUTMIX, GRADIENT)
RESETS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 1), st.sampled_from(SMALL)),
    min_size=1,
    max_size=3,
    unique_by=lambda reset: reset[0],
)
EPOCHS = st.lists(st.sampled_from(CHOICES), min_size=4, max_size=4)


@settings(max_examples=8)
@given(
    limit=st.sampled_from([0, 1, 2]),
    steps=st.lists(st.one_of(EPOCHS.map(tuple), RESETS), min_size=2, max_size=6),
)
def test_any_history_of_resets_and_epochs_is_that_of_separate_trainers(limit, steps):
    changes = tiny.trainer_settings(epochs=BUDGET, batch_size=6, lr=0.02)
    tasks = [SMALL[0], SMALL[0], SMALL[1], SMALL[0]]
    population = Population(tasks, changes, stack_limit=limit)
    trainers = [Trainer(task, changes) for task in tasks]
    got = population.reset([0, 0, 0, 1])
    wanted = [trainer.reset(seed) for trainer, seed in zip(trainers, [0, 0, 0, 1], strict=True)]
    for one, other in zip(got, wanted, strict=True):
        assert_close(one, other)
    epochs = [0] * 4
    for step in steps:
        if isinstance(step, list):
            members, seeds, given_tasks = zip(*step, strict=True)
            got = population.reset(list(seeds), list(members), list(given_tasks))
            for member, seed, task, record in zip(members, seeds, given_tasks, got, strict=True):
                trainers[member], epochs[member] = Trainer(task, changes), 0
                assert_close(record, trainers[member].reset(seed))
        elif max(epochs) == BUDGET:
            with pytest.raises(ConfigError, match="beyond the budget"):
                population.run_epoch(step)
        else:
            got = population.run_epoch(step)
            epochs = [epoch + 1 for epoch in epochs]
            for trainer, action, record in zip(trainers, step, got, strict=True):
                assert_close(record, trainer.run_epoch(action))
        placed = [member for members in stacks_of(population) for member in members]
        assert sorted(placed) == [0, 1, 2, 3]
        assert all(len(members) <= (limit or 4) for members in stacks_of(population))
        for ensemble in ensembles(population):
            assert len({(member.data.form, ensemble.epoch) for member in ensemble._members}) == 1


# State ------------------------------------------------------------------------------------------

STEPS = SaliencySettings(refresh=2, source="step")


@every_kind
def test_a_population_goes_on_from_a_snapshot_bit_by_bit(opt, model):
    changes = {"model": model, "saliency": STEPS, **OPTS[opt]}
    population, _ = everyone(**changes)
    population.run_epoch(PLAYS[0])
    snapshot = population.state_dict()
    kept = copy.deepcopy(snapshot)
    wanted = population.run_epoch(PLAYS[1])
    end = population.state_dict()
    other, _ = everyone(**changes)
    other.load_state_dict(snapshot)
    assert other.run_epoch(PLAYS[1]) == wanted
    assert_same(other.state_dict(), end)
    assert_same(snapshot, kept)
    population.load_state_dict(snapshot)
    assert population.run_epoch(PLAYS[1]) == wanted


@every_opt
@each("before, after", [(0, 1), (1, 0), (2, 0), (0, 2)])
def test_a_snapshot_goes_on_in_stacks_of_another_size(opt, before, after):
    changes = {"saliency": STEPS, **OPTS[opt]}
    first, _ = everyone(before, **changes)
    first.run_epoch(PLAYS[0])
    snapshot = first.state_dict()
    second = population_of([task for task, _ in WHO], after, **changes)
    second.load_state_dict(snapshot)
    assert_same(second.state_dict(), snapshot)
    assert stacks_of(second) == stacks_of(everyone(after)[0])
    got, wanted = second.run_epoch(PLAYS[1]), first.run_epoch(PLAYS[1])
    for one, other in zip(got, wanted, strict=True):
        assert_close(one, other)


@every_kind
def test_one_member_moves_into_a_trainer_of_its_own(opt, model):
    changes = {"model": model, "saliency": STEPS, **OPTS[opt]}
    population, _ = everyone(**changes)
    population.run_epoch(PLAYS[0])
    states = population.state_dict()["members"]
    wanted = population.run_epoch(PLAYS[1])
    for member in (1, 4):
        trainer = Trainer(WHO[member][0], tiny.trainer_settings(**changes))
        trainer.load_state_dict({"members": [states[member]]})
        assert_same(trainer.state_dict(), {"members": [states[member]]})
        assert_close(trainer.run_epoch(PLAYS[1][member]), wanted[member])


def test_members_of_different_ages_survive_a_snapshot():
    population, _ = everyone(**ADAMW)
    population.run_epoch(PLAYS[0])
    population.reset([9, 9], members=[5, 2])
    snapshot = population.state_dict()
    assert [state["epoch"] for state in snapshot["members"]] == [1, 1, 0, 1, 1, 0, 1]
    assert [state["updates"] for state in snapshot["members"]] == [2, 2, 0, 2, 2, 0, 2]
    other = population_of([task for task, _ in WHO], **ADAMW)
    other.load_state_dict(snapshot)
    for one, two in zip(other.run_epoch(PLAYS[1]), population.run_epoch(PLAYS[1]), strict=True):
        assert_close(one, two)


@every_limit
@every_model
def test_a_members_classifier_is_a_plain_timm_net(limit, model):
    population, _ = everyone(limit, model=model)
    population.run_epoch(PLAYS[0])
    images = OTHER.normalised(OTHER.val_index)
    logits = population.logits(images)
    for member, state in enumerate(population.state_dict()["members"]):
        net = create_classifier(model, num_classes=10, shape=(1, 8, 8), seed=99)
        net.load_state_dict(state["classifier"])
        with torch.no_grad():
            wanted = net.eval()(images)
        torch.testing.assert_close(logits[:, member], wanted, atol=1e-4, rtol=1e-3)


def test_a_members_step_counter_is_its_own():
    """adamw corrects its averages by the number of steps, which starts again with a reset."""
    population, _ = everyone(**ADAMW)
    population.run_epoch(PLAYS[0])
    population.reset([9], members=[0])
    population.run_epoch(PLAYS[1])
    for member, state in enumerate(population.state_dict()["members"]):
        steps = {float(s["step"]) for s in state["optimizer"].values() if s}
        per_epoch = 1 if WHO[member][0] is SHORT else 2
        assert steps == {per_epoch * (1 if member == 0 else 2)}


def test_remembered_maps_move_with_their_member():
    population, _ = everyone(saliency=STEPS)
    population.run_epoch(PLAYS[0])
    maps = {m: member_of(population, m).banks["gradient"].state_dict()["maps"] for m in (0, 4, 5)}
    assert [m for m in range(len(WHO)) if member_of(population, m).banks] == [0, 4, 5]
    population.reset([1], members=[0])
    assert not member_of(population, 0).banks
    for member in (4, 5):
        assert torch.equal(
            member_of(population, member).banks["gradient"].state_dict()["maps"], maps[member]
        )
    # A restored map is a copy: what the member learns later does not reach the snapshot.
    snapshot = population.state_dict()
    population.load_state_dict(snapshot)
    population.run_epoch([GRADIENT] * len(WHO))
    assert torch.equal(snapshot["members"][4]["saliency"]["gradient"]["maps"], maps[4])
    assert not torch.equal(member_of(population, 4).banks["gradient"].state_dict()["maps"], maps[4])


# From bytes -------------------------------------------------------------------------------------

ALONE = ("adafactorbv", "lamb", "lookahead_adamw", "muon")
"""Optimizers for one training alone: with types in their groups, whole-tensor norms, an optimizer
within, and a choice by the weight's shape."""


@each("opt", [*sorted(ELEMENTWISE), *ALONE])
def test_every_optimizer_goes_on_from_bytes_bit_by_bit(opt):
    members = 2 if opt in ELEMENTWISE else 1
    one, other = (population_of([SHORT] * members, opt=opt, lr=0.003) for _ in range(2))
    one.reset([0] * members)
    one.run_epoch([CUTMIX, MIXUP][:members])
    other.load_state_dict(from_bytes(to_bytes(one.state_dict())))
    plays = [MIXUP, PLAIN][:members]
    assert other.run_epoch(plays) == one.run_epoch(plays)
    assert to_bytes(other.state_dict()) == to_bytes(one.state_dict())


@each("opt", ["kron", "lookahead_kronw"])
def test_an_optimizer_that_draws_for_itself_has_no_snapshot(opt):
    with pytest.raises(
        ConfigError, match=f"trainer.opt is '{opt}', which draws numbers of its own"
    ):
        population_of([SHORT], opt=opt).state_dict()


@each("members", [1, 3])
def test_a_snapshot_of_more_or_fewer_members_is_refused(members):
    other = population_of([SHORT] * members)
    other.reset([0] * members)
    with pytest.raises(ConfigError, match=f"is of {members} members, this population has 2"):
        population_of([SHORT] * 2).load_state_dict(other.state_dict())


def test_a_snapshot_of_other_images_is_refused_before_anything_changes():
    one, other, undisturbed = (population_of([SAME, last]) for last in (SHORT, LONG, LONG))
    one.reset([0, 1])
    assert other.reset([2, 3]) == undisturbed.reset([2, 3])
    with pytest.raises(ConfigError, match="member 1 of the state has training images 16, of"):
        other.load_state_dict(one.state_dict())
    assert other.run_epoch([CUTMIX, MIXUP]) == undisturbed.run_epoch([CUTMIX, MIXUP])
