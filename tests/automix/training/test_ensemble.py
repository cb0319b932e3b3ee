"""One stack: half precision and compiled nets are the training that they stand for."""

from __future__ import annotations

import dataclasses
import shutil

import pytest
import torch

from automix.mixing.actions import PLAIN, MixAction
from automix.training.ensemble import measured_at_once
from automix.training.population import Population
from automix.training.settings import SaliencySettings
from tests import tiny
from tests.automix.training.helpers import (
    Watch,
    assert_close,
    digits,
    ensemble_of,
    epoch_of,
    member_of,
    population_of,
)
from tests.cases import each

GRADIENT, CUTMIX = MixAction("rmix", 0.5, "gradient"), MixAction("cutmix", 0.5)
ACTIONS = [GRADIENT, CUTMIX, PLAIN]
DROPOUT = "dropout_cnn_for_tests"

every_model = each("model", ["small_cnn_w8", DROPOUT])
every_count = each("members", [1, 3])


def dtypes(calls, of=0):
    return {args[of].dtype for args, _ in calls}


# bfloat16 ---------------------------------------------------------------------------------------


@every_model
@every_count
def test_convolutions_of_a_step_run_in_half_precision_and_all_else_in_full(model, members):
    population = population_of(members, model=model, precision="bfloat16", opt="adamw", lr=0.01)
    ensemble = ensemble_of(population)
    with epoch_of(ensemble, ACTIONS[-members:]) as (batches, log):
        for batch in batches:
            assert batch.images.dtype == batch.targets.dtype == torch.float32
            with Watch() as watch:
                ensemble._step(batch, log)
            forward = watch.of("convolution")
            assert dtypes(forward) == dtypes(forward, of=1) == {torch.bfloat16}
            assert dtypes(watch.of("_log_softmax")) == {torch.float32}
            assert not {name for name, *_ in watch.calls if name.startswith("_fused")} - {
                "_fused_adamw_"
            }
    for parameter in ensemble._net.parameters():
        assert parameter.dtype == parameter.grad.dtype == torch.float32
        for entry in ensemble._optimizer.state[parameter].values():
            assert entry.dtype == torch.float32
    for buffer in ensemble._net.buffers():
        assert buffer.dtype in (torch.float32, torch.int64)


def test_training_in_half_precision_learns():
    population = population_of(epochs=10, batch_size=10, precision="bfloat16")
    first = population.reset([0])[0]
    for _ in range(10):
        last = population.run_epoch([PLAIN])[0]
    assert last.train_loss < 0.6 * first.train_loss
    assert last.val_accuracy > first.val_accuracy + 0.2


@every_model
@every_count
def test_half_precision_answers_are_near_those_of_full_precision(model, members):
    full, half = (population_of(members, model=model, precision=p) for p in ("float32", "bfloat16"))
    images = digits().normalised(digits().val_index)
    with Watch() as watch:
        logits = half.logits(images)
    assert dtypes(watch.of("convolution")) == {torch.bfloat16}
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, full.logits(images)), "bfloat16 rounds"
    torch.testing.assert_close(logits, full.logits(images), atol=0.03, rtol=0.03)


@each("source", ["pass", "step"])
@every_count
def test_a_training_in_half_precision_is_near_that_in_full(source, members):
    changes = {"lr": 0.05, "saliency": SaliencySettings(source=source)}
    full, half = (population_of(members, precision=p, **changes) for p in ("float32", "bfloat16"))
    for _ in range(2):
        wanted, got = full.run_epoch(ACTIONS[:members]), half.run_epoch(ACTIONS[:members])
        for one, other in zip(got, wanted, strict=True):
            assert one.mixed_loss == pytest.approx(other.mixed_loss, rel=0.03)
            assert one.val_loss == pytest.approx(other.val_loss, rel=0.05)
            assert one.forward_passes == other.forward_passes
            assert one.mixed_loss != other.mixed_loss
    if source == "step":
        maps = [
            member_of(population).banks["gradient"].state_dict()["maps"]
            for population in (full, half)
        ]
        assert maps[1].dtype == torch.float32
        own, other = (torch.cosine_similarity(maps[0].roll(i, 0), maps[1], 1) for i in (0, 1))
        assert float(other.mean()) < 0.85 < 0.92 < float(own.mean()) < 1


@each("refresh", [1, 2])
@every_count
def test_a_look_runs_in_half_precision_too(members, refresh):
    """It is a forward pass; and at full precision it would take longer than the step it guides."""
    changes = {"precision": "bfloat16", "saliency": SaliencySettings(refresh=refresh)}
    ensemble = ensemble_of(population_of(members, **changes))
    with epoch_of(ensemble, [GRADIENT] * members) as (batches, _), Watch() as watch:
        next(batches)
    assert dtypes(watch.of("convolution")) == {torch.bfloat16}
    assert dtypes(watch.of("_log_softmax")) == {torch.float32}


def test_full_precision_never_rounds():
    population = population_of(2)
    with Watch() as watch:
        population.run_epoch([GRADIENT, CUTMIX])
    seen = {a.dtype for _, args, _ in watch.calls for a in args if isinstance(a, torch.Tensor)}
    assert torch.float32 in seen
    assert not seen & {torch.bfloat16, torch.float16}


# Compiled ---------------------------------------------------------------------------------------

compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))),
    reason="torch.compile on a CPU needs a C++ compiler: c++, g++ or clang++",
)


@pytest.mark.slow
@compiler
# Dynamo looks at this attribute itself and silences what torch says about it, but not its raising.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@each("members", [1, 3])
@each("source", ["pass", "step"])
def test_a_compiled_training_is_the_same_training(members, source):
    """Steps, looks, the measuring after them, and a last batch of another size."""
    changes = {"lr": 0.05, "saliency": SaliencySettings(source=source)}
    plain, compiled = (population_of(members, compile=c, **changes) for c in (False, True))
    images = digits().normalised(digits().val_index)
    for _ in range(2):
        wanted, got = plain.run_epoch(ACTIONS[:members]), compiled.run_epoch(ACTIONS[:members])
        for one, other in zip(got, wanted, strict=True):
            assert_close(one, other)
        torch.testing.assert_close(
            compiled.logits(images), plain.logits(images), atol=5e-3, rtol=5e-3
        )
    assert was_compiled(compiled)
    assert not was_compiled(plain)
    snapshot = compiled.state_dict()
    plain.load_state_dict(snapshot)
    compiled.load_state_dict(snapshot)
    for one, other in zip(
        compiled.run_epoch(ACTIONS[:members]), plain.run_epoch(ACTIONS[:members]), strict=True
    ):
        assert_close(one, other)


def was_compiled(population):
    net = ensemble_of(population)._net
    return any(module._compiled_call_impl is not None for module in net.modules())


# Measuring --------------------------------------------------------------------------------------


def test_a_record_is_the_same_however_many_sit_beside():
    """Measured by shared batches or by member, in one piece or in several."""
    tasks = [digits(), digits(), digits(seed=4)]
    settings = tiny.trainer_settings()
    uneven, even = Population(tasks, settings), Population(tasks[1:], settings)
    uneven.reset([0, 0, 0])
    even.reset([0, 0])
    assert [len(shared.slots) for shared in ensemble_of(uneven)._loader.shared_batches] == [2, 1]
    assert [len(shared.slots) for shared in ensemble_of(even)._loader.shared_batches] == [1, 1]
    both = uneven.run_epoch(ACTIONS), even.run_epoch(ACTIONS[1:])
    for one, other in zip(both[0][1:], both[1], strict=True):
        assert_close(one, other)


@each(
    "members, shape, wanted",
    [(1, (1, 8, 8), 512), (2, (1, 8, 8), 256), (8, (1, 8, 8), 128), (1, (3, 224, 224), 128)],
)
def test_tiny_images_of_few_members_are_measured_in_fewer_passes(members, shape, wanted):
    assert measured_at_once(members, shape) == wanted


def test_pieces_of_the_measuring_add_up(monkeypatch):
    population = population_of(2)
    wanted = population.run_epoch([CUTMIX, PLAIN])
    again = population_of(2)
    monkeypatch.setattr(type(ensemble_of(again)), "_images_at_once", lambda self: 7)
    got = again.run_epoch([CUTMIX, PLAIN])
    for one, other in zip(got, wanted, strict=True):
        measured, again_measured = (dataclasses.asdict(record) for record in (one, other))
        assert measured.pop("val_calibrated_loss") is None
        assert again_measured.pop("val_calibrated_loss") is None
        assert measured == pytest.approx(again_measured, 1e-5)
